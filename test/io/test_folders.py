"""Folders of images and clouds."""

from __future__ import annotations

import errno
from pathlib import Path

import cv2
import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import folders
from geoseg_ros.io.cloud_files import write_ply
from geoseg_ros.io.overlay import draw_overlay

PICTURE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)  # RGB


def save(path: Path, pixels: np.ndarray) -> Path:
    """``pixels`` in OpenCV's channel order."""
    assert cv2.imwrite(str(path), pixels)
    return path


def test_order_is_natural_and_hidden_and_foreign_files_are_left_out(tmp_path: Path) -> None:
    for name in ("frame10.png", "frame2.png", "Frame1.PNG", ".hidden.png"):
        save(tmp_path / name.lower().replace(".png", ".png"), PICTURE).rename(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in folders.list_images(tmp_path)] == ["Frame1.PNG", "frame2.png", "frame10.png"]


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (PICTURE[..., ::-1], PICTURE),
        (PICTURE[..., 0], np.repeat(PICTURE[..., :1], 3, axis=2)),
        ((PICTURE[..., 0].astype(np.uint16) << 8), np.repeat(PICTURE[..., :1], 3, axis=2)),
        (np.dstack([PICTURE[..., ::-1], np.full((6, 8), 255, np.uint8)]), PICTURE),
        (np.dstack([PICTURE[..., ::-1], np.zeros((6, 8), np.uint8)]), np.full_like(PICTURE, 128)),
    ],
    ids=["rgb", "grey", "16-bit", "opaque", "transparent"],
)
def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path, pixels: np.ndarray, expected: np.ndarray) -> None:
    image = folders.read_image(save(tmp_path / "a.png", pixels))
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    np.testing.assert_array_equal(image, expected)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 255
    plain = save(tmp_path / "a.jpg", pixels).read_bytes()
    # APP1 with one TIFF entry: tag 0x0112 (orientation), type 3 (short), value 6 (turn a quarter clockwise)
    tiff = b"II*\0" + (8).to_bytes(4, "little") + b"\x01\x00" + b"\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00" + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    (tmp_path / "b.jpg").write_bytes(plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:])
    image = folders.read_image(tmp_path / "b.jpg")
    assert image.shape == (40, 20, 3)
    assert image[:18].min() > 240 and image[22:].max() < 15


def damaged_files(folder: Path) -> list[Path]:
    png = save(folder / "good.png", np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)).read_bytes()
    jpg = save(folder / "good.jpg", np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)).read_bytes()
    bomb = bytearray(png)
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    contents = {
        "empty.png": b"", "text.jpg": b"hello", "cut.png": png[: len(png) // 2], "cut.jpg": jpg[: len(jpg) // 2], "bomb.png": bytes(bomb),
    }  # fmt: skip
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in contents]


def test_damaged_images_are_named_in_one_line(tmp_path: Path) -> None:
    for path in [*damaged_files(tmp_path), tmp_path / "missing.png"]:
        with pytest.raises(InputError) as caught:
            folders.read_image(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_unreadable_files_among_good_ones_are_skipped_and_told(tmp_path: Path) -> None:
    bad = damaged_files(tmp_path)
    found = folders.load_images(tmp_path)
    assert [path.name for path, _ in found] == ["good.jpg", "good.png"]
    assert len(found.warnings) == len(bad)
    list(found)
    assert len(found.warnings) == len(bad), "a second pass does not tell the same twice"


def test_folders_without_anything_readable_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image found"):
        folders.list_images(tmp_path)
    (tmp_path / "a.png").write_bytes(b"junk")
    with pytest.raises(InputError, match="none of its 1 files"):
        list(folders.load_images(tmp_path))
    with pytest.raises(InputError, match="this is a file"):
        folders.list_images(tmp_path / "a.png")
    with pytest.raises(InputError, match="does not exist"):
        folders.list_clouds(tmp_path / "nowhere")


def test_clouds_load_in_order(tmp_path: Path) -> None:
    for i in (10, 9):
        write_ply(tmp_path / f"c{i}.ply", Cloud(np.full((4, 3), i, np.float32)))
    (tmp_path / "c1.pcd").write_bytes(b"junk")
    found = folders.load_clouds(tmp_path)
    assert [cloud.xyz[0, 0] for _, cloud in found] == [9, 10]
    assert len(found.warnings) == 1 and "c1.pcd" in found.warnings[0]


def test_mask_round_trip_and_overlay(tmp_path: Path) -> None:
    mask = np.zeros((40, 50), np.uint8)
    mask[10:30, 10:40] = 2
    folders.write_mask(tmp_path / "m.png", mask)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_UNCHANGED), mask)
    with pytest.raises(ValueError, match="uint8"):
        folders.write_mask(tmp_path / "m.png", mask.astype(np.int32))

    image = np.full((40, 50, 3), 100, np.uint8)
    palette = np.array([[0, 0, 0], [0, 255, 0], [255, 0, 0]], np.uint8)
    drawn = draw_overlay(image, mask, palette)
    np.testing.assert_array_equal(drawn[mask == 0], image[mask == 0])
    assert drawn[20, 20].tolist() == [178, 50, 50], "half of each inside"
    assert drawn[10, 10].tolist() == [255, 0, 0], "the outline is opaque"
    folders.write_overlay(tmp_path / "o.png", image, mask, palette)
    np.testing.assert_array_equal(folders.read_image(tmp_path / "o.png"), drawn)
    assert not list(tmp_path.glob(".*")), "no temporary file is left"


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (24, 32), (600, 1100)])
@pytest.mark.parametrize("objects", [0, 1, 4])
def test_overlay_is_the_mean_with_the_colour_and_the_colour_at_the_edges(shape: tuple[int, int], objects: int) -> None:
    rng = np.random.default_rng(objects)
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    mask = np.zeros(shape, np.uint8)
    for _ in range(objects):  # some reach the border of the image
        top, left = (int(rng.integers(0, size)) for size in shape)
        mask[top : top + int(rng.integers(1, shape[0] + 1)), left : left + int(rng.integers(1, shape[1] + 1))] = rng.integers(0, 5)
    palette = rng.integers(0, 256, (4, 3)).astype(np.uint8)
    before = image.copy(), mask.copy()
    drawn = draw_overlay(image, mask, palette)
    width = max(1, round(max(shape) / 500))
    padded = np.pad(mask, width, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * width + 1, 2 * width + 1))
    edge = windows.max((2, 3)) != windows.min((2, 3))
    colours = palette[np.minimum(mask, 3)].astype(int)
    expected = np.where((mask > 0)[..., None], np.where(edge[..., None], colours, (image + colours + 1) // 2), image)
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(before[0], image)
    np.testing.assert_array_equal(before[1], mask)


def test_an_image_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    folders.write_image(tmp_path / "a.PNG", image)
    assert np.array_equal(folders.read_image(tmp_path / "a.PNG"), image)
    with pytest.raises(InputError, match="b.xyz: cannot write an image with this suffix"):
        folders.write_image(tmp_path / "b.xyz", image)

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device: '.*c.jpg'"):
        folders.write_image(tmp_path / "c.jpg", image)
    assert [p.name for p in tmp_path.iterdir()] == ["a.PNG"]
