"""Whatever bytes a file or message holds: readers give an item or one InputError of one line, and what was written comes back."""

from __future__ import annotations

import struct
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import HealthCheck, example, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as hnp  # noqa: E402

from geoseg_ros.errors import InputError  # noqa: E402
from geoseg_ros.geometry.cloud import Cloud  # noqa: E402
from geoseg_ros.io import messages as codec  # noqa: E402
from geoseg_ros.io.bin_clouds import parse_bin  # noqa: E402
from geoseg_ros.io.cloud_files import read_cloud, read_cloud_fields, write_ply  # noqa: E402
from geoseg_ros.io.encoded_images import decode_pixels  # noqa: E402
from geoseg_ros.io.fields import colour_bytes  # noqa: E402
from geoseg_ros.io.folders import read_image  # noqa: E402
from geoseg_ros.io.recordings import Recording, RecordingWriter  # noqa: E402
from support.foreign_recordings import whole_recording  # noqa: E402
from support.pcd_files import write_pcd

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

PICTURE = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)
HEADS = {
    ".pcd": b"VERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH 3\nHEIGHT 1\n"
    b"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 3\nDATA ascii\n",
    ".ply": b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\nend_header\n",
    ".npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" + b" " * 56 + b"\n",
    ".npz": b"PK\x03\x04",
    ".bin": b"",
}  # fmt: skip


def refused_or_read(read: Any, *given_to_it: Any) -> Any:
    """What is read, or None where it was refused in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read(*given_to_it)
        except InputError as error:
            assert "\n" not in str(error)
            return None


@pytest.mark.parametrize("suffix", HEADS)
@FEW
@given(rest=st.binary(max_size=300), flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
def test_cloud_files(suffix: str, rest: bytes, flips: list[tuple[int, int]]) -> None:
    data = bytearray(HEADS[suffix] + rest)
    for at, value in flips:
        if at < len(data):
            data[at] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(bytes(data))
        cloud = refused_or_read(read_cloud, path)
    assert cloud is None or (cloud.xyz.dtype == np.float32 and cloud.xyz.shape == (len(cloud), 3))


@FEW
@given(
    xyz=hnp.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(3)), elements=st.floats(-4000, 4000, width=32)),
    origin=st.none() | hnp.arrays(np.float64, 3, elements=st.floats(-6e6, 6e6)),
    colour=st.booleans(),
)
def test_clouds_come_back(xyz: np.ndarray, origin: np.ndarray | None, colour: bool) -> None:
    cloud = Cloud(xyz, np.arange(xyz.size, dtype=np.uint8).reshape(-1, 3) if colour else None, None, origin)
    with tempfile.TemporaryDirectory() as folder:
        for write, name in ((write_pcd, "a.pcd"), (write_ply, "a.ply")):
            write(Path(folder) / name, cloud)
            again = read_cloud(Path(folder) / name)
            np.testing.assert_allclose(again.original(), cloud.original(), atol=1e-3)
            assert not colour or np.array_equal(again.rgb, cloud.rgb)  # type: ignore[arg-type]


@FEW
@given(points=st.integers(60, 400), ring=st.booleans(), seed=st.integers(0, 10_000), shuffled=st.booleans())
def test_headerless_clouds_are_never_read_with_another_width(points: int, ring: bool, seed: int, shuffled: bool) -> None:
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 6, points)
    table = np.c_[20 * np.cos(angle), 20 * np.sin(angle), rng.normal(-1.7, 0.1, points), rng.integers(0, 255, points)]
    table = np.c_[table, rng.integers(0, 32, points)] if ring else table
    table = rng.permutation(table).astype("<f4") if shuffled else table.astype("<f4")
    cloud = refused_or_read(parse_bin, table.tobytes(), "a.bin")
    assert cloud is None or np.array_equal(cloud[0].xyz, table[:, :3])


@FEW
@given(
    values=hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.float64]), st.tuples(st.integers(0, 9), st.just(3)))
)
def test_colour_of_any_numbers(values: np.ndarray) -> None:
    found = refused_or_read(colour_bytes, values)
    assert found.dtype == np.uint8 and found.shape == values.shape


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm"])
@FEW
@given(cut=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=3), tail=st.binary(max_size=40))
def test_pictures(suffix: str, cut: float, flips: list[tuple[float, int]], tail: bytes) -> None:
    data = bytearray(cv2.imencode(suffix, PICTURE)[1].tobytes())
    for share, value in flips:
        data[int(share * len(data))] = value
    image = refused_or_read(decode_pixels, bytes(data[: int(cut * len(data))]) + tail, "a", 10_000)
    assert image is None or (image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3)


@FEW
@given(cut=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=3))
def test_recordings(cut: float, flips: list[tuple[float, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mcap"
        with RecordingWriter(path) as writer:
            for k in range(3):
                writer.write_image("/image", k, "camera", PICTURE)
        data = bytearray(path.read_bytes())
        for share, value in flips:
            data[int(share * len(data))] = value
        path.write_bytes(bytes(data[: int(cut * len(data))]))

        def read() -> int:
            with Recording(path) as recording:
                return sum(recording.decode(raw) is not None for raw in recording.messages())

        found = refused_or_read(read)
    assert found is None or found <= 3


ENCODINGS = ["rgb8", "bgra8", "mono8", "mono16", "16UC1", "rgb16", "bayer_rggb8", "bayer_gbrg16", "yuv422", "yuyv", "8UC4", "x"]
FIELD = st.builds(
    lambda name, offset, datatype, count: SimpleNamespace(name=name, offset=offset, datatype=datatype, count=count),
    st.sampled_from(["x", "y", "z", "rgb", "rgba", "r", "g", "b", "red", "green", "blue", "ring"]),
    st.integers(0, 40),
    st.integers(0, 10),
    st.integers(0, 5),
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    height=st.integers(0, 4), width=st.integers(0, 8), step=st.integers(0, 40), row=st.integers(0, 200), big=st.booleans(),
    more=st.lists(FIELD, max_size=6), data=st.binary(max_size=1200), fit=st.booleans(), kind=st.sampled_from([7, 8]),
)  # fmt: skip
def test_cloud_messages(height: int, width: int, step: int, row: int, big: bool, more: list, data: bytes, fit: bool, kind: int) -> None:
    own = [SimpleNamespace(name=name, offset=(4 if kind == 7 else 8) * i, datatype=kind, count=1) for i, name in enumerate("xyz")]
    data = (data * (height * width * step // max(len(data), 1) + 1))[: height * width * step] if fit else data
    message = SimpleNamespace(
        height=height, width=width, point_step=step, row_step=row, is_bigendian=big, fields=own + more, data=data, is_dense=False
    )
    cloud = refused_or_read(codec.cloud_from_message, message)
    assert cloud is None or (len(cloud) == height * width and (cloud.rgb is None or cloud.rgb.shape == (len(cloud), 3)))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    height=st.integers(0, 6), width=st.integers(0, 6), extra=st.integers(-1, 3), big=st.booleans(), data=st.binary(min_size=1, max_size=64),
    encoding=st.sampled_from(ENCODINGS),
)  # fmt: skip
def test_image_messages(height: int, width: int, extra: int, big: bool, data: bytes, encoding: str) -> None:
    size = {"rgb8": 3, "bgra8": 4, "8UC4": 4, "rgb16": 6, "mono16": 2, "16UC1": 2, "bayer_gbrg16": 2, "yuv422": 2, "yuyv": 2}.get(
        encoding, 1
    )
    step = max(0, width * size + extra)
    content = (data * (step * height // len(data) + 1))[: step * height]
    message = SimpleNamespace(height=height, width=width, step=step, encoding=encoding, is_bigendian=big, data=content)
    image = refused_or_read(codec.image_from_message, message)
    assert image is None or image.shape == (height, width, 3)


def test_the_readers_read_what_is_good(tmp_path: Path) -> None:
    (tmp_path / "a.pcd").write_bytes(HEADS[".pcd"] + b"1 2 3 0\n4 5 6 0\n7 8 9 0\n")
    assert len(read_cloud_fields(tmp_path / "a.pcd")[0]) == 3
    cv2.imwrite(str(tmp_path / "a.png"), PICTURE)
    assert read_image(tmp_path / "a.png").shape == PICTURE.shape


CHANGES = st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4)


def damaged(data: bytes, cut: float, flips: list[tuple[float, int]]) -> bytes:
    """The first part of the data, with some bytes changed."""
    changed = bytearray(data)
    for share, value in flips:
        changed[int(share * len(changed))] = value
    return bytes(changed[: round(cut * len(changed))])


@pytest.mark.parametrize("layout", ["ascii", "binary", "binary_compressed"])
@FEW
@given(cut=st.floats(0.3, 1), flips=CHANGES)
@example(cut=1.0, flips=[])
def test_damaged_pcd(layout: str, cut: float, flips: list[tuple[float, int]]) -> None:
    """Also its header, whose numbers say how much memory is wanted."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pcd"
        write_pcd(path, Cloud(np.ones((40, 3), np.float32), np.full((40, 3), 9, np.uint8)))
        head, _, body = path.read_bytes().partition(b"DATA binary\n")
        if layout == "ascii":
            body = b"1 1 1 0\n" * 40
        elif layout == "binary_compressed":
            packed = b"".join(bytes([len(body[i : i + 32]) - 1]) + body[i : i + 32] for i in range(0, len(body), 32))  # literal runs of LZF
            body = struct.pack("<II", len(packed), len(body)) + packed
        path.write_bytes(damaged(head + f"DATA {layout}\n".encode() + body, cut, flips))
        cloud = refused_or_read(read_cloud, path)
    assert cloud is None or cloud.xyz.shape == (len(cloud), 3)
    assert cloud is not None or cut < 1 or flips, "whole ones are read"


@FEW
@given(
    table=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.float16, np.int16, np.uint8, np.complex64, bool]),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=7),
    ),
    key=st.sampled_from(["", "xyz", "points", "rgb", "x"]),
)
def test_arrays_of_any_shape(table: np.ndarray, key: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("a.npz" if key else "a.npy")
        np.savez(path, **{key: table}) if key else np.save(path, table)
        cloud = refused_or_read(read_cloud, path)
    assert cloud is None or (cloud.xyz.dtype == np.float32 and cloud.xyz.shape == (len(cloud), 3))


@pytest.mark.parametrize("suffix", [".db3", ".bag"])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(cut=st.floats(0, 1), flips=CHANGES)
def test_other_recordings(suffix: str, cut: float, flips: list[tuple[float, int]]) -> None:
    data = whole_recording(suffix)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(damaged(data, cut, flips))

        def read() -> int:
            with Recording(path) as recording:
                return sum(recording.decode(raw) is not None for raw in recording.messages())

        found = refused_or_read(read)
    assert found is None or found <= 3


@pytest.mark.parametrize("suffix", [".db3", ".bag"])
def test_other_recordings_are_read_where_they_are_whole(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(whole_recording(suffix))
    with Recording(tmp_path / f"a{suffix}") as recording:
        assert [recording.decode(raw).data for raw in recording.messages()] == [f"text {k}" for k in range(3)]


@FEW
@given(
    words=st.sampled_from(["jpeg", "png", "bgr8; jpeg compressed bgr8", "bayer_rggb8; png compressed", "mono16; png compressed", "x", ""]),
    suffix=st.sampled_from([".jpg", ".png", ".webp"]), deep=st.booleans(), grey=st.booleans(), cut=st.floats(0.8, 1), flips=CHANGES,
)  # fmt: skip
def test_compressed_messages(words: str, suffix: str, deep: bool, grey: bool, cut: float, flips: list[tuple[float, int]]) -> None:
    picture = PICTURE[..., 0] if grey else PICTURE
    picture = picture.astype(np.uint16) * 257 if deep and suffix == ".png" else picture
    message = SimpleNamespace(format=words, data=damaged(cv2.imencode(suffix, picture)[1].tobytes(), cut, flips))
    image = refused_or_read(codec.image_from_compressed, message)
    assert image is None or (image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3)


@FEW
@given(
    height=st.integers(0, 5), width=st.integers(0, 5), encoding=st.sampled_from(["16UC1", "mono16", "32FC1", "64FC1"]), big=st.booleans(),
    extra=st.integers(0, 3), data=st.binary(min_size=1, max_size=40), k=st.lists(st.floats(), min_size=9, max_size=9),
    own=st.booleans(), binning=st.integers(0, 2),
)  # fmt: skip
def test_depth_messages(
    height: int, width: int, encoding: str, big: bool, extra: int, data: bytes, k: list, own: bool, binning: int
) -> None:
    step = width * {"32FC1": 4, "64FC1": 8}.get(encoding, 2) + extra
    content = (data * (step * height // len(data) + 1))[: step * height]
    message = SimpleNamespace(height=height, width=width, step=step, encoding=encoding, is_bigendian=big, data=content)
    message.header = SimpleNamespace(frame_id="optical")
    k = [2.0, 0, 1, 0, 2, 1, 0, 0, 1] if own else k
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False)
    info = SimpleNamespace(height=height, width=width, k=k, d=[], p=[0.0] * 12, r=[0.0] * 9, binning_x=binning, binning_y=binning, roi=roi)
    info.header, info.distortion_model = message.header, ""
    cloud = refused_or_read(codec.cloud_from_depth, message, info)
    assert cloud is None or (cloud.xyz.shape == (height * width, 3) and not np.isinf(cloud.xyz[cloud.valid()]).any())
