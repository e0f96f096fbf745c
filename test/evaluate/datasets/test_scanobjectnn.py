"""ScanObjectNN's files."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.datasets.scanobjectnn import CLASSES, read_objects
from support.fake_datasets import write_objects

h5py = pytest.importorskip("h5py")


@pytest.mark.parametrize("above", ["", "main_split", "h5_files/main_split"])
def test_both_parts_together(tmp_path, above) -> None:
    training = write_objects(tmp_path / above, "training", ["chair", "bag"], seed=1)
    write_objects(tmp_path / above, "test", ["toilet"], seed=2)
    found = read_objects(tmp_path)
    assert found.name == ("training0", "training1", "test0") and found.xyz.shape == (3, 256, 3)
    assert [CLASSES[k] for k in found.label] == ["chair", "bag", "toilet"]
    assert not found.foreground[:, :64].any() and found.foreground[:, 64:].all()
    with h5py.File(training) as file:
        x, y, z = file["data"][0, 5]
    assert found.xyz[0, 5].tolist() == [x, -z, y]  # turned, not mirrored: y up became z up
    assert (found.xyz[:, :64, 2] == np.float32(-0.3)).all()


def test_a_merged_file_is_preferred(tmp_path) -> None:
    for part, kinds in (("training", ["chair"]), ("test", ["bag"]), ("full", ["bed", "bed"])):
        write_objects(tmp_path, part, kinds)
    assert read_objects(tmp_path).name == ("full0", "full1")


def test_absent_files_are_named(tmp_path) -> None:
    write_objects(tmp_path / "main_split", "training", ["chair"])
    with pytest.raises(InputError, match="training_objectdataset.h5 and test_objectdataset.h5"):
        read_objects(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mask", np.full((1, 256), 7), "with background"),
        ("mask", np.full((1, 255), -1), "mask n x P"),
        ("label", np.array([15]), "label 0 to 14"),
        ("label", np.array([1, 2]), "label n"),
        ("data", np.zeros((1, 256, 4)), "expected N x N x 3"),
    ],
)
def test_other_content_is_refused(tmp_path, name, value, message) -> None:
    path = write_objects(tmp_path, "full", ["chair"])
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = value
    with pytest.raises(InputError, match=message) as error:
        read_objects(tmp_path)
    assert "full_objectdataset.h5" in str(error.value)


def test_parts_of_different_sizes_are_refused(tmp_path) -> None:
    write_objects(tmp_path, "training", ["chair"], points=128)
    write_objects(tmp_path, "test", ["chair"], points=256)
    with pytest.raises(InputError, match="different numbers of points"):
        read_objects(tmp_path)
