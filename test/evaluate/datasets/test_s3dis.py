"""S3DIS rooms, from JSIS3D's blocks and from version 1.2's text."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.datasets.s3dis import CLASSES, VOXEL, list_rooms, read_room
from support.fake_datasets import CHAIR, FLOOR, SOFA, P, furnished, write_blocks, write_text

h5py = pytest.importorskip("h5py")


def test_blocks(tmp_path) -> None:
    for room in ("Area_1/office_10", "Area_1/office_2", "Area_5/WC_1"):
        write_blocks(tmp_path, room)
    (tmp_path / "Area_other.h5").touch()
    rooms = list_rooms(tmp_path)
    assert list(rooms) == ["Area_1/office_2", "Area_1/office_10", "Area_5/WC_1"]
    room = read_room("Area_1/office_2", rooms["Area_1/office_2"])
    expected = furnished()
    assert np.array_equal(room.cloud.xyz, np.concatenate([xyz for _, xyz, _ in expected]).astype(np.float32))
    assert room.label.tolist() == [FLOOR] * 20 * P + [CHAIR] * 2 * P + [SOFA] * P
    assert np.bincount(room.instance).tolist() == [20 * P, P, P, P] and room.dropped == 0
    assert room.cloud.rgb is not None and room.cloud.rgb[0].tolist() == [60, 70, 80] and room.cloud.rgb[-1].tolist() == [200, 90, 0]


@pytest.mark.parametrize(("column", "value"), [(0, len(CLASSES)), (0, -1), (1, -2)])
def test_unknown_labels_are_refused(tmp_path, column, value) -> None:
    path = write_blocks(tmp_path, "Area_1/office_1")
    with h5py.File(path, "r+") as file:
        file["labels"][0, 0, column] = value
    with pytest.raises(InputError, match="Area_1_office_1.h5: expected classes 0 to 12"):
        read_room("Area_1/office_1", path)


def test_blocks_of_different_lengths_are_refused(tmp_path) -> None:
    path = write_blocks(tmp_path, "Area_1/office_1")
    with h5py.File(path, "r+") as file:
        labels = file["labels"][1:]
        del file["labels"]
        file["labels"] = labels
    with pytest.raises(InputError, match="as many blocks"):
        read_room("Area_1/office_1", path)


def test_text(tmp_path) -> None:
    write_text(tmp_path, "Area_1/office_1")
    rooms = list_rooms(tmp_path)
    assert list(rooms) == ["Area_1/office_1"]
    room = read_room("Area_1/office_1", rooms["Area_1/office_1"])
    # files in natural order of their names, numbered; stairs are clutter
    kinds = [CLASSES[room.label[room.instance == k][0]] for k in range(5)]
    assert kinds == ["chair", "chair", "floor", "sofa", "clutter"] and room.instance.max() == 4
    assert all(len(set(room.label[room.instance == k].tolist())) == 1 for k in range(5))
    chair = room.cloud.xyz[room.instance == 0]
    assert np.allclose(chair.min(axis=0), (1, 1, 0), atol=0.03) and np.allclose(chair.max(axis=0), (1.5, 1.5, 0.5), atol=0.03)
    assert room.cloud.rgb is not None and (room.cloud.rgb[room.instance == 0] == (200, 80, 0)).all()


def test_text_is_thinned_per_object(tmp_path) -> None:
    folder = tmp_path / "Area_2" / "hall_1" / "Annotations"
    folder.mkdir(parents=True)
    (folder / "floor_1.txt").write_text("0 0 0 0 0 0\n" + "1.0031 2 3 10 20 30\n1.0052 2 3 20 20 30\n" * 20)
    (folder / "chair_1.txt").write_text("1.0031 2 3 1 1 1\n")
    room = read_room("Area_2/hall_1", folder.parent)
    assert room.label.tolist() == [CLASSES.index("chair"), FLOOR, FLOOR] and VOXEL == 0.01  # what shares a cell of one object is one point
    assert np.allclose(room.cloud.xyz[2], (1.00415, 2, 3), atol=1e-5) and room.cloud.rgb is not None
    assert room.cloud.rgb.tolist() == [[1, 1, 1], [0, 0, 0], [15, 20, 30]]


def test_one_damaged_line_is_left_out_and_counted(tmp_path) -> None:
    path = write_text(tmp_path, "Area_5/hallway_6")
    file = path / "Annotations" / "floor_1.txt"
    lines = file.read_bytes().splitlines()
    lines[17] = lines[17].replace(b" 70 ", b" 7\x10 ")
    file.write_bytes(b"\n".join(lines))
    damaged, whole = read_room("a", path), read_room("b", write_text(tmp_path / "whole", "Area_5/hallway_6"))
    assert damaged.dropped == 1 and whole.dropped == 0
    assert len(whole.cloud) - 1 <= len(damaged.cloud) <= len(whole.cloud)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 of 0 are not"),
        (b"1 2 3\n4 5 6\n", "3 numbers a line, expected x y z r g b"),
        (b"1 2 3 4 5 6\nno numbers here\n\xff\xfe\n", "2 of 3 are not"),
        (b"nan nan nan 1 2 3\n", "1 of 1 are not"),
    ],
)
def test_other_text_is_refused(tmp_path, content, message) -> None:
    path = write_text(tmp_path, "Area_1/office_1")
    (path / "Annotations" / "chair_1.txt").write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_room("Area_1/office_1", path)
    assert "chair_1.txt" in str(error.value)


def test_nothing_there(tmp_path) -> None:
    with pytest.raises(InputError, match="no room of S3DIS"):
        list_rooms(tmp_path)
    (tmp_path / "Area_1" / "office_1" / "Annotations").mkdir(parents=True)
    with pytest.raises(InputError, match="no file"):
        read_room("Area_1/office_1", list_rooms(tmp_path)["Area_1/office_1"])
