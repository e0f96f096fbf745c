"""``geoseg export``: every layout read back by other means than those that wrote it."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import yaml

from geoseg_ros.cli.main import main
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.messages.clouds import cloud_from_message
from geoseg_ros.io.recordings import Recording, RecordingWriter


def export(recordings, form, out, *more):
    root, _ = recordings
    return main(["export", str(root / "out.mcap"), "--recording", str(root / "in.mcap"), "--format", form, "--out", str(out), *more])


def test_coco(recordings, tmp_path, capsys) -> None:
    assert export(recordings, "coco", tmp_path / "set", "--json") == 0
    assert {k: v for k, v in json.loads(capsys.readouterr().out).items() if k in ("items", "instances")} == {"items": 3, "instances": 3}
    found = json.loads((tmp_path / "set" / "annotations.json").read_text())
    assert [entry["name"] for entry in found["categories"]] == ["red", "high"]
    masks = np.zeros((3, 30, 40), bool)
    for entry in found["annotations"]:
        runs = entry["segmentation"]["counts"]
        flat = np.concatenate([np.full(count, k % 2, bool) for k, count in enumerate(runs)])
        part = flat.reshape(40, 30).T
        rows, columns = np.nonzero(part)
        x, y, w, h = entry["bbox"]
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x, y, x + w, y + h) and entry["area"] == part.sum()
        masks[entry["image_id"] - 1] |= part
    expected = recordings[1].copy()
    expected[:, 2, 35] = False
    expected[1, 25:28] = False  # 15 pixels
    np.testing.assert_array_equal(masks, expected)
    picture = cv2.imread(str(tmp_path / "set" / "images" / found["images"][2]["file_name"]))
    assert picture[26, 24].tolist() == [10, 10, 250]  # b, g, r


def test_yolo_and_png(recordings, tmp_path) -> None:
    assert export(recordings, "yolo", tmp_path / "yolo", "--least", "2") == 0 and export(recordings, "png", tmp_path / "png") == 0
    assert yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())["names"] == {0: "red", 1: "high"}
    assert (tmp_path / "png" / "labels.txt").read_text().split() == ["none", "red", "high"]
    for k, red in enumerate(recordings[1]):
        label = cv2.imread(str(tmp_path / "png" / "labels" / f"{k:06d}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(label, red)
        drawn = np.zeros((30, 40), np.uint8)
        for line in (tmp_path / "yolo" / "labels" / f"{k:06d}.txt").read_text().splitlines():
            kind, *places = line.split()
            outline = np.rint(np.array(places, float).reshape(-1, 2) * (40, 30) - 0.5).astype(np.int32)
            assert kind == "0"
            cv2.fillPoly(drawn, [outline], 1)
        filled = red.copy()
        filled[2, 35] = False
        if k:
            filled[9:16, 9:16] = True  # outlines have no holes
        np.testing.assert_array_equal(drawn > 0, filled)


def test_semantickitti(recordings, tmp_path) -> None:
    assert export(recordings, "semantickitti", tmp_path / "set", "--every", "2") == 0
    folder = tmp_path / "set" / "sequences" / "00"
    with Recording(recordings[0] / "in.mcap") as recording:
        clouds = [cloud_from_message(recording.decode(raw)).xyz for raw in recording.messages(["/lidar"])][::2]
    assert [float(line) for line in (folder / "times.txt").read_text().split()] == pytest.approx([0.0, 0.2])
    for k, xyz in enumerate(clouds):
        points = np.fromfile(folder / "velodyne" / f"{k:06d}.bin", "<f4").reshape(-1, 4)
        word = np.fromfile(folder / "labels" / f"{k:06d}.label", "<u4")
        np.testing.assert_array_equal(points[:, :3], xyz[1:])
        np.testing.assert_array_equal(points[:, 3], np.arange(1, 40))
        np.testing.assert_array_equal(word & 0xFFFF, np.where(xyz[1:, 2] > 1, 2, 0))
        np.testing.assert_array_equal(word >> 16, xyz[1:, 2] > 1)
    assert yaml.safe_load((tmp_path / "set" / "labels.yaml").read_text())["labels"] == {0: "unlabeled", 1: "red", 2: "high"}


@pytest.mark.parametrize("frame", ["body", "optical"])
def test_kitti_boxes_are_where_they_were(recordings, tmp_path, frame) -> None:
    assert export(recordings, "kitti", tmp_path / "set", "--frame", frame) == 0
    folder = tmp_path / "set" / "training"
    kind, *values = (folder / "label_2" / "000001.txt").read_text().split()
    height, width, length, x, y, z, yaw = map(float, values[7:])
    rows = dict(line.split(": ") for line in (folder / "calib" / "000001.txt").read_text().splitlines())
    matrix = np.array(rows["Tr_velo_to_cam"].split(), float).reshape(3, 4)
    # the corners as the development kit computes them
    corners = np.array([[length, -length], [-2 * height, 0], [width, -width]]) / 2
    box = np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1).reshape(-1, 3)
    c, s = np.cos(yaw), np.sin(yaw)
    camera = box @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T + (x, y, z)
    cloud = np.linalg.solve(matrix[:, :3], camera.T - matrix[:, 3:]).T
    half = np.array([0.2, 0.1, 0.3]) / 2  # a quarter turn about z
    assert kind == "high" and (values[:7] == ["-1", "-1", "-10", *["-1"] * 4])
    np.testing.assert_allclose(cloud.min(axis=0), (1, 2, 3) - half, atol=1e-3)
    np.testing.assert_allclose(cloud.max(axis=0), (1, 2, 3) + half, atol=1e-3)


def test_what_cannot_be_exported_is_one_line(recordings, tmp_path, capsys) -> None:
    root, _ = recordings
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with RecordingWriter(tmp_path / "other.mcap") as writer:
        writer.write_image("/image", 77, "camera", np.zeros((30, 40, 3), np.uint8))
        writer.write_cloud("/points", 77, "lidar", Cloud(np.zeros((3, 3), np.float32)))
    out, other = ["--out", str(tmp_path / "set")], str(tmp_path / "other.mcap")
    for arguments, line in (
        ([str(root / "out.mcap"), "--format", "coco", "--out", str(tmp_path / "full")], "exists, expected a new or an empty folder"),
        ([str(root / "out.mcap"), "--format", "coco", *out], "no image with the stamp of one"),
        ([str(root / "out.mcap"), "--recording", other, "--format", "yolo", *out], "3 masks, and no image"),
        ([other, "--format", "kitti", *out], "no topic .../points_labeled, it has /image, /points"),
        ([str(root / "out.mcap"), "--format", "png", "--node", "other", *out], "no topic /other/mask"),
        ([str(root / "out.mcap"), "--format", "png", "--every", "0", *out], "--every: expected at least 1"),
        ([str(tmp_path / "none.mcap"), "--format", "png", *out], "none.mcap"),
    ):
        assert main(["export", *arguments]) == 2
        error = capsys.readouterr().err
        assert line in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "other.mcap"]  # nothing half-written
