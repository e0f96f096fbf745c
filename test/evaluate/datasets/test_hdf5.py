"""HDF5: what is refused before it is read."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.datasets.hdf5 import MAX_BYTES, read_arrays

h5py = pytest.importorskip("h5py")


def test_reading(tmp_path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 4, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, compression="gzip")
        file.create_dataset("other", data="text that nobody asked for")
    found = read_arrays(tmp_path / "a.h5", {"x": (None, None, 3)})
    assert list(found) == ["x"] and found["x"].dtype == np.int16 and np.array_equal(found["x"], values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: None, "x: expected an array N x 3, found nothing"),
        (lambda f: f.create_group("x"), "x: expected an array N x 3, found a group"),
        (lambda f: f.create_dataset("x", data=np.zeros((5, 4))), "x: expected N x 3, got 5 x 4"),
        (lambda f: f.create_dataset("x", data=np.zeros(3)), "x: expected N x 3, got 3"),
        (lambda f: f.create_dataset("x", data=1.0), "x: expected N x 3, got a single value"),
        (lambda f: f.create_dataset("x", data=[["a", "b", "c"]]), "x: expected numbers"),
        (lambda f: f.create_dataset("x", data=np.zeros((2, 3), complex)), "x: expected numbers"),
    ],
)
def test_other_arrays_are_refused(tmp_path, make, message) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file)
    with pytest.raises(InputError) as error:
        read_arrays(tmp_path / "a.h5", {"x": (None, 3)})
    assert message in str(error.value) and "a.h5" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("chunks", [(1024, 3), (2**25, 3)])
def test_a_small_file_cannot_ask_for_much(tmp_path, chunks) -> None:
    rows = 2**40 if chunks[0] == 1024 else 10
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", shape=(rows, 3), maxshape=(None, 3), chunks=chunks, dtype="f8", compression="gzip")
    assert (tmp_path / "a.h5").stat().st_size < 100_000
    with pytest.raises(InputError, match=f"bytes declared, expected at most {MAX_BYTES}"):
        read_arrays(tmp_path / "a.h5", {"x": (None, 3)})


def test_damaged_and_absent_files(tmp_path) -> None:
    path = tmp_path / "a.h5"
    with pytest.raises(InputError, match="no such file"):
        read_arrays(path, {"x": (None,)})
    path.write_bytes(b"not HDF5 at all")
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        read_arrays(path, {"x": (None,)})
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.random.default_rng(0).random(20_000), chunks=(1000,), compression="gzip")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        read_arrays(path, {"x": (None,)})
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(2000) + whole[middle + 2000 :])
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        read_arrays(path, {"x": (None,)})


def test_without_h5py(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match="a.h5: needs the Python package h5py, which is not installed") as error:
        read_arrays(tmp_path / "a.h5", {"x": (None,)})
    assert "\n" not in str(error.value)
