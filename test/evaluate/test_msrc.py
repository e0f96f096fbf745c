"""MSRC sets: who is learnt from, who is measured, what is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.msrc import CLASSES, MODES, SPLITS, SURROUNDINGS, Photograph, in_split, msrc_sets, read_photographs

COW, SHEEP, GRASS = (CLASSES.index(name) for name in ("cow", "sheep", "grass"))


def photograph(name: str, *objects: int, share: float = 0.25) -> Photograph:
    """Grass with a bar of each object, ``share`` of the picture each."""
    label = np.full((40, 60), GRASS, np.uint8)
    width = round(60 * share)
    for k, obj in enumerate(objects):
        label[:, k * width : (k + 1) * width] = obj
    return Photograph(name, np.zeros((40, 60, 3), np.uint8), label)


def write(root, photographs) -> None:
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for p in photographs:
        cv2.imwrite(str(root / "images" / f"{p.name}.jpg"), p.rgb)
        cv2.imwrite(str(root / "labels" / f"{p.name}.png"), p.label)


def test_splits_are_apart_and_hold_every_object() -> None:
    assert set(SPLITS["development"]) == {"cow", "car", "sign"}
    assert set(SPLITS["report"]).isdisjoint(SPLITS["development"])
    assert {*SPLITS["report"], *SPLITS["development"], *SURROUNDINGS} == set(CLASSES)
    # one photograph with both kinds of objects is in the report only
    both = photograph("both", COW, SHEEP)
    assert not in_split(both, "development") and in_split(both, "report")
    assert in_split(photograph("cow", COW), "development") and in_split(photograph("empty"), "development")


def test_halves_negatives_and_modes() -> None:
    cows = [photograph(f"1_{k}", COW) for k in range(12)]
    tiny, large = photograph("1_90", COW, share=0.02), photograph("1_91", COW, share=0.7)
    empty = [photograph(f"2_{k}") for k in range(8)]
    sheep = [photograph(f"3_{k}", SHEEP) for k in range(5)]  # of the other split
    sets = {s.given: s for s in msrc_sets([*cows, tiny, large, *empty, *sheep], "development")}
    assert tuple(sets) == MODES and {s.name for s in sets.values()} == {"cow"}
    pack = sets["pack"]
    assert [id(x) for x in pack.own.images] == [id(p.rgb) for p in cows[0::2]]
    assert [i.name for i in pack.images] == [p.name for p in [*cows[1::2], *empty[1::2]]]
    assert [i.shown for i in pack.images] == [True] * 6 + [False] * 4
    assert not pack.own.without_images
    without = sets["pack + without"]
    assert [id(x) for x in without.own.without_images] == [id(p.rgb) for p in empty[0::2]] and without.images == pack.images
    folder, mixed = sets["folder"], sets["folder with outliers"]
    assert [i.name for i in folder.images] == [p.name for p in cows]
    assert [i.shown for i in mixed.images] == [True] * 12 + [False] * 3
    for items in (folder, mixed):
        assert [id(x) for x in items.own.images] == [id(i.data) for i in items.images]


def test_a_class_with_few_photographs_is_no_set() -> None:
    with pytest.raises(InputError, match="no class"):
        msrc_sets([photograph(f"1_{k}", COW) for k in range(9)], "development")


def test_unlabelled_border_is_not_measured() -> None:
    p = photograph("1", COW)
    label = p.label.copy()
    label[:, 15:40] = 0
    item = Photograph("1", p.rgb, label).item("cow")
    assert item.truth[:, :15].all() and not item.truth[:, 15:].any() and item.counted is not None
    assert not item.counted[:, 15:20].any() and item.counted[:, 20:].all() and item.counted[:, :15].all()


def test_reading(tmp_path) -> None:
    photographs = [photograph("1_2", COW), photograph("1_10", SHEEP)]
    write(tmp_path, photographs)
    found = read_photographs(tmp_path)
    assert [p.name for p in found] == ["1_2", "1_10"]  # natural order
    for got, expected in zip(found, photographs, strict=True):
        assert np.array_equal(got.label, expected.label) and got.rgb.shape == expected.rgb.shape


@pytest.mark.parametrize("damage", ["absent", "size", "class", "colour"])
def test_bad_labels_are_named(tmp_path, damage) -> None:
    p = photograph("1_2", COW)
    write(tmp_path, [p])
    file = tmp_path / "labels" / "1_2.png"
    if damage == "absent":
        file.rename(tmp_path / "labels" / "other.png")
    else:
        bad = {"size": p.label[:-1], "class": np.full_like(p.label, 24), "colour": np.repeat(p.label[..., None], 3, 2)}[damage]
        cv2.imwrite(str(file), bad)
    with pytest.raises(InputError, match="1_2"):
        read_photographs(tmp_path)


def test_absent_folder(tmp_path) -> None:
    with pytest.raises(InputError, match="labels"):
        read_photographs(tmp_path)
