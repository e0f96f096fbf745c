"""``geoseg evaluate --recording``: labels in every layout, figures computed by hand, one line for what does not fit."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from geoseg_ros.cli.main import main
from geoseg_ros.io.messages.clouds import cloud_from_message
from geoseg_ros.io.recordings import Recording
from geoseg_ros.io.truth_labels import UNCOUNTED, read_truth


def evaluate(recordings, truth, *more):
    return main(["evaluate", "--recording", str(recordings[0] / "in.mcap"), "--truth", str(truth), "--packs", "a.pack", "--json", *more])


def figures(recordings, truth, capsys, *more):
    assert evaluate(recordings, truth, *more) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def exported(recordings, tmp_path, capsys):
    """Results as data sets, which are then the truth."""
    root, _ = recordings

    def make(form, *more):
        command = ["export", str(root / "out.mcap"), "--recording", str(root / "in.mcap"), "--format", form, "--out", str(tmp_path / form)]
        assert main([*command, *more]) == 0
        capsys.readouterr()
        return tmp_path / form

    return make


@pytest.mark.parametrize("form", ["coco", "yolo", "png"])
def test_images_that_were_exported_are_right(form, recordings, exported, opened, tmp_path, capsys) -> None:
    out = tmp_path / "report.md"
    found = figures(recordings, exported(form, "--least", "1"), capsys, "--out", str(out))
    row = found["targets"]["red"]
    assert found["judged"] == {"clouds": 0, "images": 3} and (row["images"], row["image_false"]) == (2, 0.0)
    # an outline of yolo has no hole, and that of a dot no area
    lost = [(mask.sum() - 1) / (mask.sum() + np.count_nonzero(~mask[9:16, 9:16])) for mask in recordings[1][1:]]
    assert row["image_j"] == pytest.approx(1.0 if form != "yolo" else np.mean(lost), abs=1e-12)
    assert "| red | 0 | - | - | - | - | 2 |" in out.read_text() and json.loads(out.with_suffix(".json").read_text()) == found


def test_clouds_that_were_exported_are_right_and_a_changed_one_is_not(recordings, exported, opened, capsys) -> None:
    truth = exported("semantickitti", "--every", "2")
    found = figures(recordings, truth, capsys)
    row = found["targets"]["high"]
    assert found["judged"] == {"clouds": 2, "images": 0} and found["messages"] == {"clouds": 3, "images": 3, "rejected": 0}
    assert [row[key] for key in ("clouds", "cloud_iou", "object_precision", "object_recall", "cloud_false")] == [2, 1.0, 1.0, 1.0, None]
    assert found["latency"]["clouds"]["p50_ms"] >= 0
    files = sorted(truth.rglob("*.label"))
    first, second = (np.fromfile(file, "<u4") for file in files)
    high = np.flatnonzero(first)
    first[high[: len(high) // 2 + 1]] = 0  # more than half of the only object: it is found no more
    first.tofile(files[0])
    np.zeros_like(second).tofile(files[1])
    row = figures(recordings, truth, capsys)["targets"]["high"]
    left, all_found = len(high) - len(high) // 2 - 1, len(high) + int((second > 0).sum())
    assert row["cloud_iou"] == pytest.approx(left / all_found)
    assert (row["clouds"], row["cloud_false"], row["object_precision"], row["object_recall"]) == (1, 1.0, 0.0, 0.0)


def test_plain_files_by_number_and_by_stamp_with_classes_of_others(recordings, opened, tmp_path, capsys) -> None:
    with Recording(recordings[0] / "in.mcap") as recording:
        clouds = [cloud_from_message(recording.decode(raw)).xyz for raw in recording.messages(["/lidar"])]
    high = [xyz[:, 2] > 1 for xyz in clouds]
    np.save(tmp_path / "scan_1.npy", np.where(high[1], 7, 3))  # of all points, in one number a point
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump({"labels": {0: "none", 3: "floor", 7: "high"}}))
    (tmp_path / "stamps.txt").write_text("other 200000005\n")
    label = np.where(high[2], 7, 0)
    label[:10] = 255
    np.save(tmp_path / "other.npy", np.column_stack([label, high[2]]))
    found = figures(recordings, tmp_path, capsys, "--ignore", "255")
    assert found["judged"]["clouds"] == 2 and found["targets"]["high"]["cloud_iou"] == 1.0
    assert (found["targets"]["high"]["object_precision"], found["not_measured"], found["not_wanted"]) == (1.0, ["red"], ["floor"])


def test_a_message_that_is_rejected_counts_as_nothing_found(recordings, exported, opened, capsys) -> None:
    row = figures(recordings, exported("semantickitti"), capsys, "-p", "max_points:=10")["targets"]["high"]
    assert (row["cloud_iou"], row["object_recall"], row["object_precision"]) == (0.0, 0.0, None)


def test_segmentations_of_coco(tmp_path) -> None:
    """Polygons, run lengths of pycocotools (of the letters that it makes), and a crowd; a palette's indices are the ids."""
    square = {"size": [5, 7], "counts": "6230c0"}  # made by pycocotools of rows and columns 1 and 2
    about = {
        "categories": [{"id": 0, "name": "mug"}, {"id": 9, "name": "can"}],
        "images": [{"id": "a", "file_name": "frame_12.jpg", "height": 5, "width": 7}],
        "annotations": [
            {"image_id": "a", "category_id": 0, "segmentation": square},
            {"image_id": "a", "category_id": 9, "segmentation": [[4, 0, 7, 0, 7, 2, 4, 2]]},
            {"image_id": "a", "category_id": 9, "iscrowd": 1, "segmentation": {"size": [5, 7], "counts": [34, 1]}},
        ],
    }
    (tmp_path / "made.json").write_text(json.dumps(about))
    truth = read_truth(tmp_path / "made.json")
    (item,) = truth.images
    assert (truth.names, item.index, item.stamp_ns) == (("mug", "can"), 12, None)
    label = item.read((5, 7))[0]
    expected = np.zeros((5, 7), int)
    expected[1:3, 1:3], expected[0:2, 4:7], expected[4, 6] = 1, 2, UNCOUNTED
    np.testing.assert_array_equal(label, expected)
    image = Image.fromarray(np.array([[0, 1], [2, 2]], np.uint8), "P")
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    image.save(tmp_path / "0.png")
    (tmp_path / "made.json").unlink()
    (tmp_path / "labels.txt").write_text("none\nmug\ncan\n")
    np.testing.assert_array_equal(read_truth(tmp_path).images[0].read((2, 2))[0], [[0, 1], [2, 2]])


def test_what_does_not_fit_is_one_line(recordings, exported, opened, tmp_path, capsys) -> None:
    good = exported("semantickitti")
    (tmp_path / "empty").mkdir()

    def changed(name, change):
        shutil.copytree(good, tmp_path / name)
        change(tmp_path / name)
        return tmp_path / name

    def stamps(folder):
        (folder / "stamps.txt").write_text("000000 5\n000001 77\n000002 200000005\n")

    def short(folder):
        np.zeros(12, "<u4").tofile(folder / "sequences/00/labels/000001.label")

    def unknown(folder):
        np.full(39, 9, "<u4").tofile(folder / "sequences/00/labels/000001.label")

    def others(folder):
        (folder / "labels.yaml").write_text("labels: {1: mug, 2: can}")

    def image(folder):
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(folder / "1.png")

    def twice(folder):
        (folder / "stamps.txt").write_text("000000 5\n000001 5\n000002 200000005\n")

    for truth, line in (
        (tmp_path / "none", "no such file or folder"),
        (tmp_path / "empty", "no labels in it, expected *.label"),
        (exported("kitti"), "export semantickitti"),
        (changed("stamps", stamps), "has the stamp 77 ns; it has 3, stamps 5 to 200000005 ns"),
        (changed("short", short), "12 labels, the cloud of the recording has 40 points, 39 of them measured"),
        (changed("unknown", unknown), "label 9 has no name; --ignore 9 leaves it out"),
        (changed("others", others), "no target is in the labels, which have mug, can; the packs find red, high"),
        (changed("image", image), "4 x 3 pixels, the image of the recording has 40 x 30"),
        (changed("twice", twice), "two labels of one message"),
        (changed("unnamed", lambda folder: (folder / "labels.yaml").unlink()), "no names of the labels"),
    ):
        assert evaluate(recordings, truth) == 2, line
        error = capsys.readouterr().err
        assert line in error and error.count("\n") == 1
    assert main(["evaluate", "--recording", str(recordings[0] / "in.mcap"), "--packs", "a"]) == 2
    assert "--truth: expected the labels of --recording" in capsys.readouterr().err
