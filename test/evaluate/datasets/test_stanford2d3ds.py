"""2D-3D-S pictures."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.datasets.stanford2d3ds import UNKNOWN, list_pictures, read_classes, read_semantic
from support.fake_datasets import CHAIR, FLOOR, LABELS, SOFA, write_labels, write_picture


def test_listing(tmp_path) -> None:
    write_picture(tmp_path, "area_5b", "copyRoom_1", 3, "chair")
    write_picture(tmp_path, "area_1", "office_24", 10, "chair")
    write_picture(tmp_path, "area_1", "office_24", 9, "chair")
    (tmp_path / "area_files").mkdir()
    found = list_pictures(tmp_path)
    assert [(p.area, p.room) for p in found] == [("Area_1", "Area_1/office_24")] * 2 + [("Area_5", "Area_5/copyRoom_1")]
    assert ["frame_9_" in p.name for p in found] == [True, False, False]
    assert found[0].semantic.name.endswith("office_24_frame_9_domain_semantic.png")


def test_semantic_colours_count_in_the_list(tmp_path) -> None:
    write_labels(tmp_path)
    classes = read_classes(tmp_path)
    assert classes.tolist() == [UNKNOWN, FLOOR, FLOOR, CHAIR, CHAIR, SOFA, SOFA, 2, 2, UNKNOWN] and len(classes) == len(LABELS) + 1
    write_picture(tmp_path, "area_1", "office_1", 0, "sofa", share=0.25)
    (picture,) = list_pictures(tmp_path)
    label = read_semantic(picture, classes)
    assert label.shape == (96, 96) and (label[-1] == UNKNOWN).all()  # 0x0D0D0D lies beyond the list
    assert (label[:-1, :72] == FLOOR).all() and (label[:-1, 72:] == SOFA).all()


def test_all_three_bytes_of_a_colour_count(tmp_path) -> None:
    write_picture(tmp_path, "area_1", "office_1", 0, "chair")
    (picture,) = list_pictures(tmp_path)
    classes = np.full(0x0D0D0D + 2, UNKNOWN)
    classes[0x0D0D0D] = SOFA
    assert (read_semantic(picture, classes)[-1] == SOFA).all()


@pytest.mark.parametrize("content", ["{}", "[1, 2]", "no JSON", "7", "[" * 100_000])
def test_another_list_is_refused(tmp_path, content) -> None:
    (tmp_path / "semantic_labels.json").write_text(content)
    with pytest.raises(InputError, match="semantic_labels.json: expected a list of labels"):
        read_classes(tmp_path)


def test_absent_files_are_named(tmp_path) -> None:
    with pytest.raises(InputError, match="semantic_labels.json"):
        read_classes(tmp_path)
    with pytest.raises(InputError, match="no picture of 2D-3D-S"):
        list_pictures(tmp_path)
    path = write_picture(tmp_path, "area_1", "office_1", 0, "chair")
    semantic = path.parents[1] / "semantic" / path.name.replace("_rgb", "_semantic")
    semantic.unlink()
    with pytest.raises(InputError, match="domain_semantic.png: expected the labels"):
        list_pictures(tmp_path)
    path.rename(path.with_name("photo.png"))
    with pytest.raises(InputError, match="photo.png: expected a name like"):
        list_pictures(tmp_path)
