"""Cloud files: round trips, the layouts that PCL and others write, and every kind of bad input."""

from __future__ import annotations

import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import lzf
from geoseg_ros.io.cloud_files import CLOUD_SUFFIXES, read_cloud, read_cloud_fields, write_ply
from support.paths import SHARED
from support.pcd_files import write_pcd

MOSD = SHARED / "data/clouds/mosd"


def sample(count: int = 12, shape: tuple[int, int] | None = None) -> Cloud:
    rng = np.random.default_rng(3)
    xyz = rng.normal(size=(count, 3)).astype(np.float32)
    xyz[1] = np.nan
    return Cloud(xyz, rng.integers(0, 256, (count, 3), dtype=np.uint8), shape)


def same(a: Cloud, b: Cloud) -> None:
    np.testing.assert_array_equal(a.xyz, b.xyz)
    assert a.xyz.dtype == np.float32 and a.xyz.flags.c_contiguous
    assert (a.rgb is None) == (b.rgb is None)
    if a.rgb is not None:
        np.testing.assert_array_equal(a.rgb, b.rgb)
        assert a.rgb.dtype == np.uint8
    assert a.shape == b.shape


def pcd_bytes(
    fields: str,
    sizes: str,
    types: str,
    data: bytes,
    encoding: str,
    width: int,
    height: int = 1,
    points: int | None = None,
    counts: str = "",
) -> bytes:
    lines = ["# .PCD v0.7", "VERSION 0.7", f"FIELDS {fields}", f"SIZE {sizes}", f"TYPE {types}"]
    lines += [f"COUNT {counts or ' '.join('1' for _ in fields.split())}", f"WIDTH {width}", f"HEIGHT {height}"]
    lines += ["VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {width * height if points is None else points}", f"DATA {encoding}"]
    return ("\n".join(lines) + "\n").encode() + data


def lzf_literals(data: bytes) -> bytes:
    """A valid LZF stream without back references."""
    return b"".join(bytes([len(data[i : i + 32]) - 1]) + data[i : i + 32] for i in range(0, len(data), 32))


@pytest.mark.parametrize("shape", [None, (3, 4)])
def test_pcd_round_trip(tmp_path: Path, shape: tuple[int, int] | None) -> None:
    cloud = sample(shape=shape)
    extra = {"label": np.arange(12, dtype=np.uint32), "intensity": np.linspace(0, 1, 12), "ring": np.arange(12, dtype=np.int16)}
    write_pcd(tmp_path / "a.pcd", cloud, extra)
    back, fields = read_cloud_fields(tmp_path / "a.pcd")
    same(back, cloud)
    assert list(fields) == list(extra)
    for name, column in extra.items():
        np.testing.assert_array_equal(fields[name], column)
        assert fields[name].dtype == column.dtype


@pytest.mark.parametrize("bad", [np.zeros(11), np.zeros((12, 2)), np.zeros(12, complex), np.zeros(12, bool)])
def test_pcd_extra_field_must_be_one_number_per_point(tmp_path: Path, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="extra field a"):
        write_pcd(tmp_path / "a.pcd", sample(), {"a": bad})
    with pytest.raises(ValueError, match="extra field 'x'"):
        write_pcd(tmp_path / "a.pcd", sample(), {"x": np.zeros(12)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("colour", [True, False])
def test_ply_round_trip(tmp_path: Path, colour: bool) -> None:
    cloud = sample() if colour else Cloud(sample().xyz)
    write_ply(tmp_path / "a.ply", cloud)
    same(read_cloud(tmp_path / "a.ply"), cloud)


def test_cloud_read(tmp_path: Path) -> None:
    write_pcd(tmp_path / "a.pcd", sample(shape=(3, 4)))
    same(Cloud.read(tmp_path / "a.pcd"), sample(shape=(3, 4)))
    with pytest.raises(InputError, match="b.pcd"):
        Cloud.read(tmp_path / "b.pcd")


def test_empty_cloud_round_trips(tmp_path: Path) -> None:
    empty = Cloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8))
    write_ply(tmp_path / "a.ply", empty)
    write_pcd(tmp_path / "a.pcd", empty)
    same(read_cloud(tmp_path / "a.ply"), empty)
    same(read_cloud(tmp_path / "a.pcd"), empty)


@pytest.mark.parametrize("encoding", ["binary", "binary_compressed"])
def test_pcd_any_order_type_padding_and_count(tmp_path: Path, encoding: str) -> None:
    cloud = Cloud(sample(6).xyz, sample(6).rgb, (2, 3))
    packed = (cloud.rgb.astype(np.uint32) << [16, 8, 0]).sum(axis=1).astype("<u4") | np.uint32(0xFF000000)
    table = np.zeros(
        6, [("z", "<f8"), ("_", "u1", 3), ("rgba", "<u4"), ("x", "<f4"), ("histogram", "<f4", 2), ("y", "<f8"), ("label", "<i2")]
    )
    for i, name in enumerate("xyz"):
        table[name] = cloud.xyz[:, i]
    table["rgba"], table["label"], table["histogram"] = packed, np.arange(6) - 2, np.arange(12).reshape(6, 2)
    data = table.tobytes()
    if encoding == "binary_compressed":  # one field after the other
        data = b"".join(np.ascontiguousarray(table[name]).tobytes() for name in table.dtype.names)
        packed_data = lzf_literals(data)
        data = struct.pack("<II", len(packed_data), len(data)) + packed_data
    path = tmp_path / "a.pcd"
    path.write_bytes(
        pcd_bytes("z _ rgba x histogram y label", "8 1 4 4 4 8 2", "F U U F F F I", data, encoding, 3, 2, counts="1 3 1 1 2 1 1")
    )
    back, fields = read_cloud_fields(path)
    same(back, cloud)
    assert list(fields) == ["histogram", "label"]
    np.testing.assert_array_equal(fields["label"], np.arange(6) - 2)
    np.testing.assert_array_equal(fields["histogram"], np.arange(12).reshape(6, 2))


def test_pcd_ascii_colour_in_all_its_spellings(tmp_path: Path) -> None:
    colour = 0x010203
    as_float = float(np.array([colour], "<u4").view("<f4")[0])
    path = tmp_path / "a.pcd"
    for kind, text in (
        ("F", f"{as_float:.9g}"),
        ("U", str(colour)),
        ("F", str(colour)),
        ("U", str(colour | 0xFF000000)),
        ("F", str(colour | 0xFF000000)),
    ):
        value = f"1 2.5 -3e-1 {text}\nnan -nan nan {text}\n"
        path.write_bytes(pcd_bytes("x y z rgb", "4 4 4 4", f"F F F {kind}", value.encode(), "ascii", 2))
        cloud = read_cloud(path)
        np.testing.assert_array_equal(cloud.xyz[0], np.array([1, 2.5, -0.3], np.float32))
        assert np.isnan(cloud.xyz[1]).all()
        assert cloud.rgb is not None and cloud.rgb[0].tolist() == [1, 2, 3], (kind, text)


def test_pcd_old_header_without_count_viewpoint_points(tmp_path: Path) -> None:
    path = tmp_path / "a.pcd"
    path.write_bytes(b"COLUMNS x y z\r\nSIZE 4 4 4\r\nTYPE F F F\r\nWIDTH 1\r\nHEIGHT 1\r\nDATA ascii\r\n1 2 3\r\n")
    assert read_cloud(path).xyz.tolist() == [[1, 2, 3]]


def test_float64_out_of_range_becomes_an_invalid_point(tmp_path: Path) -> None:
    path = tmp_path / "a.pcd"
    path.write_bytes(pcd_bytes("x y z", "8 8 8", "F F F", np.array([1e300, 0, 0], "<f8").tobytes(), "binary", 1))
    assert not read_cloud(path).valid().any()


@pytest.mark.parametrize("order", ["ascii", "<", ">"])
def test_ply_encodings_with_faces_and_elements_before(tmp_path: Path, order: str) -> None:
    name = {"ascii": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    header = f"ply\nformat {name} 1.0\ncomment x\nobj_info y\nelement camera 2\nproperty double f\n"
    header += "property uchar id\nelement vertex 2\nproperty double y\n"
    header += "property uchar red\nproperty float x\nproperty uint8 green\nproperty uchar blue\nproperty short z\nproperty int label\n"
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    rows = [(2.5, 10, 1.5, 20, 30, -3, 70_000), (0.5, 40, -1.5, 50, 60, 7, -1)]
    if order == "ascii":
        data = b"0.5 1\n0.5 2\n" + "".join(" ".join(map(str, row)) + "\n" for row in rows).encode() + b"3 0 1 0\n"
    else:
        camera = np.zeros(2, [("f", order + "f8"), ("id", "u1")])
        layout = ["f8", "u1", "f4", "u1", "u1", "i2", "i4"]
        vertices = np.array(rows, [(str(i), order + kind) for i, kind in enumerate(layout)])
        data = camera.tobytes() + vertices.tobytes() + b"\x03" + np.arange(3, dtype=order + "i4").tobytes()
    path = tmp_path / "a.ply"
    path.write_bytes(header.encode() + data)
    cloud, fields = read_cloud_fields(path)
    assert cloud.xyz.tolist() == [[1.5, 2.5, -3], [-1.5, 0.5, 7]]
    assert cloud.rgb is not None and cloud.rgb.tolist() == [[10, 20, 30], [40, 50, 60]]
    assert fields["label"].tolist() == [70_000, -1] and list(fields) == ["label"]


def test_npy_npz_bin(tmp_path: Path) -> None:
    xyz = sample().xyz
    rgb = sample().rgb
    assert rgb is not None
    np.save(tmp_path / "three.npy", xyz.astype(np.float64))
    same(read_cloud(tmp_path / "three.npy"), Cloud(xyz))
    np.save(tmp_path / "four.npy", np.asfortranarray(np.c_[xyz, np.arange(12)]))
    cloud, fields = read_cloud_fields(tmp_path / "four.npy")
    same(cloud, Cloud(xyz))
    assert fields["intensity"].tolist() == list(range(12))
    np.save(tmp_path / "six.npy", np.c_[xyz, rgb])
    same(read_cloud(tmp_path / "six.npy"), Cloud(xyz, rgb))
    np.save(tmp_path / "unit.npy", np.c_[xyz, rgb / 255.0].reshape(3, 4, 6))
    same(read_cloud(tmp_path / "unit.npy"), Cloud(xyz, rgb, (3, 4)))
    np.savez_compressed(tmp_path / "a.npz", xyz=xyz, rgb=rgb, label=np.arange(12), other=np.zeros(5))
    cloud, fields = read_cloud_fields(tmp_path / "a.npz")
    same(cloud, Cloud(xyz, rgb))
    assert fields["label"].tolist() == list(range(12)) and list(fields) == ["label"]
    np.savez(tmp_path / "organised.npz", xyz=xyz.reshape(3, 4, 3), label=np.arange(12).reshape(3, 4))
    cloud, fields = read_cloud_fields(tmp_path / "organised.npz")
    same(cloud, Cloud(xyz, None, (3, 4)))
    assert fields["label"].tolist() == list(range(12))
    np.c_[xyz, np.arange(12)].astype("<f4").tofile(tmp_path / "a.bin")
    cloud, fields = read_cloud_fields(tmp_path / "a.bin")
    same(cloud, Cloud(xyz))
    assert fields["intensity"].tolist() == list(range(12))


HUGE = 10**12
BIG = 4_000_000_000 // 12  # points of 12 bytes: nearly what the 32-bit sizes can say
PLY_XYZ = b"property float x\nproperty float y\nproperty float z\nend_header\n"
NPY_HUGE = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({HUGE}, 3), }}".ljust(117).encode()
GOOD_PCD = pcd_bytes("x y z", "4 4 4", "F F F", b"\0" * 24, "binary", 2)
# fmt: off
BAD_FILES = {
    "missing_data.pcd": pcd_bytes("x y z", "4 4 4", "F F F", b"\0" * 23, "binary", 2),
    "huge.pcd": pcd_bytes("x y z", "4 4 4", "F F F", b"\0" * 24, "binary", HUGE),
    "huge_ascii.pcd": pcd_bytes("x y z", "4 4 4", "F F F", b"1 2 3\n", "ascii", HUGE),
    "huge_compressed.pcd": pcd_bytes("x y z", "4 4 4", "F F F", struct.pack("<II", 2, 12 * BIG) + b"\0\0", "binary_compressed", BIG),
    "huge_count.pcd": pcd_bytes("x y z h", "4 4 4 4", "F F F F", b"", "binary", 0, counts=f"1 1 1 {HUGE}"),
    "zero_count.pcd": pcd_bytes("x y z", "4 4 4", "F F F", b"\0" * 8, "binary", 2, counts="1 1 0"),
    "no_sizes.pcd": pcd_bytes("x y z", "4 4 4", "F F F", b"\0" * 7, "binary_compressed", 2),
    "short_compressed.pcd": pcd_bytes("x y z", "4 4 4", "F F F", struct.pack("<II", 50, 24) + b"\0" * 9, "binary_compressed", 2),
    "other_size.pcd": pcd_bytes("x y z", "4 4 4", "F F F", struct.pack("<II", 2, 12) + b"\0\0", "binary_compressed", 2),
    "damaged.pcd": pcd_bytes("x y z", "4 4 4", "F F F", struct.pack("<II", 3, 24) + b"\xff\x01\x01", "binary_compressed", 2),
    "no_x.pcd": pcd_bytes("a y z", "4 4 4", "F F F", b"\0" * 24, "binary", 2),
    "vector_x.pcd": pcd_bytes("x y z", "4 4 4", "F F F", b"\0" * 32, "binary", 2, counts="2 1 1"),
    "points.pcd": pcd_bytes("x y z", "4 4 4", "F F F", b"\0" * 24, "binary", 2, points=3),
    "lengths.pcd": pcd_bytes("x y z", "4 4", "F F F", b"\0" * 24, "binary", 2),
    "type.pcd": pcd_bytes("x y z", "4 4 3", "F F F", b"\0" * 24, "binary", 2),
    "kind.pcd": pcd_bytes("x y z", "4 4 4", "F F Q", b"\0" * 24, "binary", 2),
    "number.pcd": GOOD_PCD.replace(b"WIDTH 2", b"WIDTH two"),
    "negative.pcd": GOOD_PCD.replace(b"WIDTH 2", b"WIDTH -2"),
    "no_width.pcd": b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nDATA ascii\n1 2 3\nx",
    "encoding.pcd": GOOD_PCD.replace(b"DATA binary", b"DATA zipped"),
    "no_data_line.pcd": GOOD_PCD.split(b"DATA")[0],
    "garbage.pcd": bytes(range(256)) * 300,
    "words.pcd": pcd_bytes("x y z", "4 4 4", "F F F", b"1 2 three\n4 5 6\n", "ascii", 2),
    "ragged.pcd": pcd_bytes("x y z", "4 4 4", "F F F", b"1 2 3\n4 5 6 7\n", "ascii", 2),
    "narrow.pcd": pcd_bytes("x y z", "4 4 4", "F F F", b"1.000 2.000\n4.000 5.000\n", "ascii", 2),
    "short.pcd": pcd_bytes("x y z", "4 4 4", "F F F", b"1.000 2.000 3.000\n", "ascii", 2),
    "blank.pcd": pcd_bytes("x y z", "4 4 4", "F F F", b" \n" * 20, "ascii", 2),
    "empty.pcd": b"",
    "not.ply": b"plywood\n",
    "no_end.ply": b"ply\nformat ascii 1.0\nelement vertex 1\n",
    "no_format.ply": b"ply\nelement vertex 1\nproperty float x\nend_header\n1\n",
    "format.ply": b"ply\nformat binary_middle_endian 1.0\nelement vertex 1\nend_header\n",
    "type.ply": b"ply\nformat ascii 1.0\nelement vertex 1\nproperty quaternion x\nend_header\n1\n",
    "orphan.ply": b"ply\nformat ascii 1.0\nproperty float x\nend_header\n1\n",
    "count.ply": b"ply\nformat ascii 1.0\nelement vertex many\nend_header\n",
    "negative.ply": b"ply\nformat ascii 1.0\nelement vertex -1\nend_header\n",
    "no_vertex.ply": b"ply\nformat ascii 1.0\nelement face 0\nend_header\n",
    "bare.ply": b"ply\nformat binary_little_endian 1.0\nelement vertex 3\nend_header\n",
    "no_z.ply": b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nend_header\n1 2\n",
    "list.ply": b"ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar int x\nend_header\n1 2\n",
    "truncated.ply": b"ply\nformat binary_little_endian 1.0\nelement vertex 3\n" + PLY_XYZ + b"\0" * 35,
    "huge.ply": f"ply\nformat binary_big_endian 1.0\nelement vertex {HUGE}\n".encode() + PLY_XYZ,
    "huge_ascii.ply": f"ply\nformat ascii 1.0\nelement camera {HUGE}\nproperty int a\nelement vertex 1\n".encode() + PLY_XYZ,
    "garbage.npy": b"\x93NUMPY" + bytes(range(200)),
    "text.npy": b"hello, this is not an array",
    "huge.npy": b"\x93NUMPY\x01\x00\x76\x00" + NPY_HUGE + b"\n" + b"\0" * 24,
    "garbage.npz": b"PK\x03\x04" + bytes(range(200)),
    "five.bin": b"\0" * 20,
    "empty.bin": b"",
    "noise.bin": np.full(40, 1e20, "<f4").tobytes(),
    "cloud.xyz": b"1 2 3",
    "nosuffix": b"1 2 3",
}
# fmt: on


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_gives_one_line_that_names_it(tmp_path: Path, name: str, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / name
    path.write_bytes(BAD_FILES[name])
    with pytest.raises(InputError) as caught:
        read_cloud(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not recwarn.list


@pytest.mark.parametrize("suffix", CLOUD_SUFFIXES)
def test_missing_file_and_directory(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"folder{suffix}").mkdir()
    for name in (f"absent{suffix}", f"folder{suffix}"):
        with pytest.raises(InputError, match=name):
            read_cloud(tmp_path / name)


@pytest.mark.parametrize(
    "arrays",
    [
        {"points": np.zeros((4, 3))},
        {"xyz": np.zeros((4, 2))},
        {"xyz": np.zeros((4, 3)), "rgb": np.zeros((3, 3))},
        {"xyz": np.array(["a"])},
        {"xyz": np.array([None])},
    ],
)
def test_npz_of_other_arrays(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match="a.npz"):
        read_cloud(tmp_path / "a.npz")


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((4, 5)), np.zeros((1, 2, 3, 3)), np.array([[None] * 3])])
def test_npy_of_another_kind(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match="a.npy"):
        read_cloud(tmp_path / "a.npy")


def test_npz_with_a_huge_declared_shape(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("xyz.npy", BAD_FILES["huge.npy"])
    with pytest.raises(InputError, match="larger than the data"):
        read_cloud(tmp_path / "a.npz")


def test_damaged_files_never_raise_anything_else(tmp_path: Path) -> None:
    cloud = sample(200)
    write_pcd(tmp_path / "a.pcd", cloud)
    write_ply(tmp_path / "a.ply", cloud)
    np.save(tmp_path / "a.npy", cloud.xyz)
    np.savez_compressed(tmp_path / "a.npz", xyz=cloud.xyz, rgb=cloud.rgb)
    data = lzf_literals(cloud.xyz.T.tobytes())
    data = struct.pack("<II", len(data), 2400) + data
    (tmp_path / "b.pcd").write_bytes(pcd_bytes("x y z", "4 4 4", "F F F", data, "binary_compressed", 200))
    rng = np.random.default_rng(0)
    refused = 0
    for path in sorted(tmp_path.iterdir()):
        good = path.read_bytes()
        for trial in range(60):
            damaged = bytearray(good)
            if trial % 2:
                damaged = damaged[: rng.integers(0, len(good))]
            else:
                for at in rng.integers(0, min(len(good), 700), 4):
                    damaged[at] = rng.integers(0, 256)
            path.write_bytes(damaged)
            try:
                read_cloud(path)
            except InputError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 150  # every truncation at least


def test_lzf_never_reads_or_writes_outside_its_arrays() -> None:
    """Random streams give what a plain loop over bytes gives, or are refused where it leaves its arrays."""

    def plain(data: bytes, size: int) -> bytes | None:
        out, at = bytearray(), 0
        while at < len(data):
            token, at = data[at], at + 1
            if token < 32:
                literal = data[at : at + token + 1]
                if len(literal) <= token:
                    return None
                out, at = out + literal, at + token + 1
            else:
                extra = data[at : at + 1] if token >> 5 == 7 else b"\0"
                at += token >> 5 == 7
                if not extra or at >= len(data):
                    return None
                start, at = len(out) - ((token & 31) << 8) - data[at] - 1, at + 1
                if start < 0:
                    return None
                for k in range((token >> 5) + 2 + extra[0]):
                    out.append(out[start + k])
        return bytes(out) if len(out) == size else None

    rng = np.random.default_rng(0)
    good = 0
    for _ in range(3000):
        tokens = [bytes([k, *rng.integers(97, 123, k + 1)]) for k in rng.integers(0, 5, 2)]
        tokens += [bytes([(length << 5) | 0, *([3] if length == 7 else []), back]) for length, back in rng.integers([1, 0], [8, 6], (3, 2))]
        data = b"".join(tokens)[: rng.integers(1, 40)]
        size = int(rng.integers(1, 60)) if rng.random() < 0.5 else next((n for n in range(80) if plain(data, n) is not None), 5)
        expected = plain(data, size)
        try:
            assert lzf.decompress(data, size).tobytes() == expected
            good += 1
        except ValueError:
            assert expected is None
    assert 500 < good < 2500


def test_lzf_back_references() -> None:
    assert lzf.decompress(b"\x02abc\x20\x02", 6).tobytes() == b"abcabc"  # 3 bytes, 3 back
    assert lzf.decompress(b"\x00a\x60\x00", 6).tobytes() == b"aaaaaa"  # overlapping: 5 bytes, 1 back
    assert lzf.decompress(b"\x01ab\xe0\x05\x01", 16).tobytes() == b"ab" * 8  # long form: 7 + 5 + 2 bytes, 2 back
    for data in (b"\x02ab", b"\x02abc\x20\x03", b"\x02abc", b"\x02abc\x20", b"\x02abc\xe0", b"\x02abc\xe0\xff\x00"):
        with pytest.raises(ValueError):
            lzf.decompress(data, 6)
    with pytest.raises(ValueError, match="cannot hold"):
        lzf.decompress(b"\x00a", 10**9)


@pytest.mark.skipif(not MOSD.is_dir(), reason="the shared Kinect scenes are not here")
def test_real_compressed_pcd() -> None:
    cloud, fields = read_cloud_fields(MOSD / "learn33.pcd")
    start = time.process_time()
    same(read_cloud(MOSD / "learn33.pcd"), cloud)
    assert time.process_time() - start < 0.2
    assert cloud.shape == (480, 640) and cloud.rgb is not None
    assert np.count_nonzero(cloud.valid()) == 179131
    labels = fields["label"][cloud.valid()] // 10
    assert np.unique(labels).tolist() == [0, 2, 3, 4, 5, 6]
    assert 0.5 < np.median(cloud.xyz[cloud.valid(), 2]) < 1.2


@pytest.mark.skipif(not MOSD.is_dir(), reason="the shared clouds are not here")
def test_real_pcl_and_open3d_files() -> None:
    for name, count in (("pcl/capture0001.pcd", 249647), ("pcl/region_growing_rgb_tutorial.pcd", 259847), ("open3d_frag_115.ply", 64365)):
        assert np.count_nonzero(read_cloud(MOSD.parent / name).valid()) == count
