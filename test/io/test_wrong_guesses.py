"""Inputs that look like something else are read as what they are, or refused; none is guessed at in silence."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.cloud_files import read_cloud, read_cloud_fields, write_ply
from geoseg_ros.io.fields import colour_bytes
from geoseg_ros.io.folders import read_image, write_image
from geoseg_ros.io.items import gather_images, open_clouds, open_images
from geoseg_ros.io.recordings import RecordingWriter
from support.pcd_files import write_pcd

RNG = np.random.default_rng(0)


def scan(points: int, ring: bool) -> np.ndarray:
    """A LiDAR sweep: float32 [points, 4 or 5]."""
    angle = np.linspace(0, 2 * np.pi, points)
    far = 10 + 5 * np.sin(7 * angle) + RNG.normal(0, 0.02, points)
    table = np.c_[far * np.cos(angle), far * np.sin(angle), -1.7 + RNG.normal(0, 0.1, points), RNG.integers(0, 255, points)]
    return np.c_[table, RNG.integers(0, 32, points)].astype("<f4") if ring else table.astype("<f4")


# ---- (a) headerless clouds


@pytest.mark.parametrize("order", ["as scanned", "shuffled"])
@pytest.mark.parametrize("name", ["0.bin", "LIDAR_TOP.pcd.bin"])
@pytest.mark.parametrize("points", [34720, 1000, 80])
def test_five_floats_a_point_are_five(tmp_path: Path, name: str, points: int, order: str) -> None:
    table = scan(points, ring=True)
    table = RNG.permutation(table) if order == "shuffled" else table
    table.tofile(tmp_path / name)
    cloud, rest = read_cloud_fields(tmp_path / name)
    np.testing.assert_array_equal(cloud.xyz, table[:, :3])
    np.testing.assert_array_equal(rest["intensity"], table[:, 3])
    np.testing.assert_array_equal(rest["ring"], table[:, 4])


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
@pytest.mark.parametrize("points", [34720, 1000, 80, 7])
def test_four_floats_a_point_are_four(tmp_path: Path, points: int, scale: float) -> None:
    table = scan(points, ring=False) * np.float32([1, 1, 1, scale])
    table.tofile(tmp_path / "0.bin")
    np.testing.assert_array_equal(read_cloud(tmp_path / "0.bin").xyz, table[:, :3])


@pytest.mark.parametrize("width", [3, 6, 7, 8])
def test_other_numbers_of_floats_are_refused(tmp_path: Path, width: int) -> None:
    table = scan(800, ring=True)
    table = np.c_[table, RNG.random((800, 3)) * 1000 + 5000][:, [0, 1, 2, 5, 6, 7, 3, 4]][:, :width].astype("<f4")
    table.tofile(tmp_path / "0.bin")
    with pytest.raises(InputError, match="floats a point"):
        read_cloud(tmp_path / "0.bin")


# ---- (b) ranges of colour


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.array([[0, 128, 255]], np.uint16), True),
        (np.array([[0, 128, 255]], np.int32), False),
        (np.array([[0, 128 * 257, 65535]], np.uint16), False),
        (np.array([[0, 514, 1023]], np.uint16), True),
        (np.array([[0, 2056, 4095]], np.uint16), True),
        (np.array([[0.0, 128 / 255, 1.0]], np.float32), False),
        (np.array([[0.0, 128 / 255, 1.0000002]], np.float32), False),
        (np.array([[0.0, 128 / 255, 1.02]], np.float32), True),
        (np.array([[0.0, 128.0, 255.3]], np.float64), False),
        (np.array([[0.0, 128 * 257.0, 65535.0]], np.float64), True),
        (np.array([[-0.001, 128 / 255, np.inf]], np.float32), False),
    ],
)
def test_colour_of_any_range(values: np.ndarray, told: bool) -> None:
    lines: list[str] = []
    found = colour_bytes(values, "a.ply: colour", lines.append)
    expected = [0, 128, 0] if np.isinf(values).any() else [0, 128, 255]
    assert np.abs(found[0].astype(int) - expected).max() <= 1 and bool(lines) is told


def test_eight_bits_in_ushort_fields_of_a_file(tmp_path: Path) -> None:
    body = "".join(f"{i} 0 0 {c} {c} {c}\n" for i, c in enumerate((0, 100, 250)))
    properties = "".join(f"property {'float' if n in 'xyz' else 'ushort'} {n}\n" for n in ("x", "y", "z", "red", "green", "blue"))
    (tmp_path / "a.ply").write_text(f"ply\nformat ascii 1.0\nelement vertex 3\n{properties}end_header\n{body}")
    with pytest.warns(UserWarning, match=r"a.ply: colour: 16-bit values up to 250"):
        assert read_cloud(tmp_path / "a.ply").rgb[:, 0].tolist() == [0, 100, 250]  # type: ignore[index]


def test_normals_are_not_colour(tmp_path: Path) -> None:
    table = np.c_[RNG.normal(size=(20, 3)), np.tile([0.0, -0.6, 0.8], (20, 1))].astype(np.float32)
    np.save(tmp_path / "a.npy", table)
    with pytest.warns(UserWarning, match="normals"):
        cloud, rest = read_cloud_fields(tmp_path / "a.npy")
    assert cloud.rgb is None and rest["normal_y"].tolist() == table[:, 4].tolist()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_pictures_of_more_than_8_bits_keep_their_brightness(tmp_path: Path, bits: int, suffix: str) -> None:
    grey = np.tile(np.linspace(0, 2**bits - 1, 64).astype(np.uint16), (32, 1))
    cv2.imwrite(str(tmp_path / f"a{suffix}"), grey)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        image = read_image(tmp_path / f"a{suffix}")
    assert np.abs(image[0, :, 0].astype(int) - np.linspace(0, 255, 64)).max() <= 1
    assert bool(told) is (bits < 16)


def test_floats_in_tiff(tmp_path: Path) -> None:
    picture = np.zeros((16, 16, 3), np.float32)
    picture[:8, :, 2], picture[0, 0] = 1.0, 1.01
    cv2.imwrite(str(tmp_path / "a.tiff"), picture)
    with pytest.warns(UserWarning):
        image = read_image(tmp_path / "a.tiff")
    assert image[4, 4].tolist() == [255, 0, 0] and image[12, 4].tolist() == [0, 0, 0]


# ---- (e) the sensor's pose, and large numbers


def pcd(viewpoint: str, points: Any, kind: str = "8") -> str:
    rows = "\n".join(" ".join(f"{value!r}" for value in row) for row in points)
    n = len(points)
    return (
        f"VERSION 0.7\nFIELDS x y z\nSIZE {kind} {kind} {kind}\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {n}\nHEIGHT 1\n"
        f"VIEWPOINT {viewpoint}\nPOINTS {n}\nDATA ascii\n{rows}\n"
    )


@pytest.mark.parametrize("shift", [(1.0, 2.0, 3.0), (691234.25, 5334567.5, 512.0)])
def test_viewpoint_is_the_pose_of_the_sensor(tmp_path: Path, shift: tuple[float, float, float]) -> None:
    half = 0.7071067811865476  # a quarter turn to the left
    own = np.array([[2.0, 0.0, 0.5], [0.0, 3.0, 0.0], [-1.0, -1.0, 1.0]])
    world = own @ np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) + shift
    (tmp_path / "a.pcd").write_text(pcd(f"{shift[0]} {shift[1]} {shift[2]} {half} 0 0 {half}", world.tolist()))
    cloud = read_cloud(tmp_path / "a.pcd")
    np.testing.assert_allclose(cloud.xyz, own, atol=1e-6)
    np.testing.assert_allclose(cloud.original(), world, atol=1e-6)
    for write, name in ((write_pcd, "b.pcd"), (write_ply, "b.ply")):
        write(tmp_path / name, cloud)
        again = read_cloud(tmp_path / name)
        np.testing.assert_allclose(again.original(), world, atol=1e-6)
    np.testing.assert_allclose(read_cloud(tmp_path / "b.pcd").xyz, own, atol=1e-6)


def test_what_is_no_pose_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pcd").write_text(pcd("0 0 0 0 0 0 0", [[1.0, 2.0, 3.0]]))
    with pytest.warns(UserWarning, match="VIEWPOINT 0 0 0 0 0 0 0 is no pose"):
        assert read_cloud(tmp_path / "a.pcd").xyz.tolist() == [[1.0, 2.0, 3.0]]


UTM = np.array([691234.123, 5334567.456, 512.789])


@pytest.mark.parametrize("name", ["a.pcd", "a.npy", "a.npz", "a.ply"])
def test_millimetres_far_from_the_origin(tmp_path: Path, name: str) -> None:
    points = UTM + np.c_[np.arange(50) * 0.001, np.zeros(50), np.zeros(50)]
    path = tmp_path / name
    if name == "a.pcd":
        path.write_text(pcd("0 0 0 1 0 0 0", points.tolist()))
    elif name == "a.npy":
        np.save(path, points)
    elif name == "a.npz":
        np.savez(path, xyz=points)
    else:
        rows = "\n".join(" ".join(map(repr, row)) for row in points.tolist())
        properties = "".join(f"property double {axis}\n" for axis in "xyz")
        path.write_text(f"ply\nformat ascii 1.0\nelement vertex 50\n{properties}end_header\n{rows}\n")
    cloud = read_cloud(path)
    assert cloud.xyz.dtype == np.float32 and np.abs(cloud.xyz).max() < 10
    np.testing.assert_allclose(np.diff(cloud.xyz[:, 0]), 0.001, atol=1e-6)
    for write, written in ((write_pcd, "b.pcd"), (write_ply, "b.ply")):
        write(tmp_path / written, cloud)
        np.testing.assert_allclose(read_cloud(tmp_path / written).original(), points, atol=1e-4)


def test_near_clouds_and_sentinels_keep_their_origin(tmp_path: Path) -> None:
    near = RNG.normal(size=(30, 3)) * 100
    near[3] = 1e30
    np.save(tmp_path / "a.npy", near)
    cloud = read_cloud(tmp_path / "a.npy")
    assert cloud.origin is None and cloud.original() is cloud.xyz
    np.save(tmp_path / "b.npy", np.full((30, 3), 1e20))
    assert read_cloud(tmp_path / "b.npy").origin is None


# ---- (f) folders of several kinds


def test_a_folder_with_photographs_and_a_recording_says_both(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    write_image(tmp_path / "set" / "a.png", image)
    with RecordingWriter(tmp_path / "set" / "drive.mcap") as writer:
        writer.write_image("/image", 0, "camera", image)
        writer.write_cloud("/points", 0, "lidar", Cloud(np.zeros((3, 3), np.float32)))
    for open_them in (open_images, open_clouds):
        with pytest.raises(InputError, match=r"set: holds 1 images or clouds and the recording drive.mcap"):
            open_them([tmp_path / "set"])
    with pytest.raises(InputError, match=r"drive.mcap"):
        gather_images(tmp_path / "set")
    assert len(open_images([tmp_path / "set" / "drive.mcap"])) == 1


# ---- numbers as other C libraries write them


def test_what_is_no_number_in_ascii(tmp_path: Path) -> None:
    rows = [
        "1 2 3",
        "-nan(ind) 2 3",
        "1.#QNAN 0 0",
        "-1.#IND00 0 0",
        "1.#INF 0 0",
        "-1.#INF 1 1",
        "nan nan nan",
        "NaN(snan) 1 1",
        "1.#J 1 1",
    ]
    text = pcd("0 0 0 1 0 0 0", [[0.0] * 3] * len(rows), "4").partition("DATA ascii\n")
    (tmp_path / "a.pcd").write_text(text[0] + text[1] + "\n".join(rows) + "\n")
    x = read_cloud(tmp_path / "a.pcd").xyz[:, 0]
    np.testing.assert_array_equal(x, [1, np.nan, np.nan, np.nan, np.inf, -np.inf, np.nan, np.nan, np.nan])


def test_signalling_nan_in_a_headerless_cloud_prints_nothing(tmp_path, recwarn) -> None:
    signalling = np.tile(np.array([0x7F800001, 0x7F7FFFFF, 0x7F7FFFFF, 0], "<u4"), 300)
    (tmp_path / "a.bin").write_bytes(signalling.tobytes())
    assert np.isnan(read_cloud(tmp_path / "a.bin").xyz[:, 0]).all()
    assert not recwarn.list
