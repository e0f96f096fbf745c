"""``geoseg replay`` with the node's parameters and inputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from geoseg_ros.cli.main import main
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.recordings import Recording, RecordingWriter


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    with RecordingWriter(tmp_path / "in.mcap") as writer:
        for i in range(3):
            writer.write_cloud("/lidar", 10**18 + i * 10**8, "lidar", Cloud(rng.uniform(0, 2, (100, 3)).astype(np.float32)))
            writer.write_image("/camera", 10**18 + i * 10**8 + 7, "camera", np.full((8, 9, 3), (255, 0, 0), np.uint8))
    return tmp_path / "in.mcap"


def topics(path: Path) -> dict[str, int]:
    with Recording(path) as recording:
        return {name.rsplit("/", 1)[1]: about.messages for name, about in recording.topics().items()}


def test_parameters_come_from_the_file_then_the_assignments_then_the_options(bag: Path, opened: list, tmp_path: Path, capsys) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("/**:\n  ros__parameters: {packs: [a.pack], max_points: 99, device: cpu, backend: torch, wanted_labels: [high]}\n")
    out = tmp_path / "out.mcap"
    command = ["replay", str(bag), "--out", str(out), "--json", "--params-file", str(file)]
    assert main([*command, "-p", "max_points:=100", "-p", "tracking.confirm:=1", "--packs", "b.pack", "c.pack"]) == 0
    (given,) = opened
    assert (given.packs, given.max_points, given.tracking.confirm) == (("b.pack", "c.pack"), 100, 1)
    assert (given.device, given.backend, given.backend_strict) == ("cpu", "torch", False)
    report = json.loads(capsys.readouterr().out)
    assert (report["clouds"], report["images"], report["objects"], report["rejected"], report["unplaced"]) == (3, 3, 3, [], 0)
    assert topics(out) == {"label_info": 1, "points_labeled": 3, "points_obstacles": 3, "objects": 3, "mask": 3}
    assert main([*command, "--backend", "onnxruntime"]) == 0, "larger clouds are rejected, and said so"
    assert opened[1].backend_strict and len(json.loads(capsys.readouterr().out)["rejected"]) == 3


def test_outputs_and_inputs_can_be_named(bag: Path, opened: list, tmp_path: Path, capsys) -> None:
    command = ["replay", str(bag), "--packs", "a.pack", "--out", str(tmp_path / "out.mcap")]
    assert main([*command, "--outputs", "overlay", "--image", "/camera", "-p", "cloud_source:=none"]) == 0
    assert topics(tmp_path / "out.mcap") == {"label_info": 1, "overlay": 3}
    assert "0 clouds with 0 objects, 3 masks" in capsys.readouterr().out


def test_objects_that_have_no_place_are_not_counted(bag: Path, opened: list, tmp_path: Path, capsys) -> None:
    command = ["replay", str(bag), "--packs", "a.pack", "--out", str(tmp_path / "out.mcap"), "-p", "target_frame:=odom", "--json"]
    assert main([*command, "-p", "tracking.confirm:=1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["clouds"], report["objects"], report["unplaced"]) == (3, 0, 3)
    assert "objects" not in topics(tmp_path / "out.mcap")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "no packs, expected some from --packs or from the parameter file"),
        (["--packs", "a", "--params-file", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["--packs", "a", "-p", "max_points=3"], "parameter max_points=3: expected name:=value"),
        (["--packs", "a", "-p", "p_max:=0.1"], "parameter p_max: unknown"),
        (["--packs", "a", "-p", "wanted_labels:=[mug]"], "parameter wanted_labels: no concept mug, expected some of red, high"),
        (["--packs", "a", "-p", "cloud_source:=depth"], "cloud_source is depth, name the topic of the depth images"),
        (["--packs", "a", "-p", "cloud_source:=depth", "--depth", "/lidar"], "topic /lidar is sensor_msgs/msg/PointCloud2"),
        (["--packs", "a", "-p", "cloud_source:=none", "-p", "image_transport:=none"], "no cloud and no image in it"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(bag: Path, opened: list, tmp_path: Path, capsys, arguments: list[str], line: str) -> None:
    assert main(["replay", str(bag), "--out", str(tmp_path / "out.mcap"), *arguments]) == 2
    err = capsys.readouterr().err
    assert line in err and err.count("\n") == 1 and err.startswith("geoseg replay: ")
    assert not (tmp_path / "out.mcap").exists()


def test_a_missing_transform_is_said_and_the_rest_goes_on(bag: Path, opened: list, tmp_path: Path, capsys) -> None:
    assert main(["replay", str(bag), "--packs", "a", "-p", "target_frame:=map", "--out", str(tmp_path / "out.mcap")]) == 0
    assert "warning: /lidar: no transform from 'lidar' to 'map': the recording does not join them" in capsys.readouterr().err
    assert topics(tmp_path / "out.mcap") == {"label_info": 1, "points_labeled": 3, "mask": 3}


def test_a_snapshot_is_replayed_with_its_parameters_and_without_its_outputs(opened: list, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "snapshot"
    folder.mkdir()
    with RecordingWriter(folder / "messages.mcap") as writer:
        cloud = Cloud(np.zeros((4, 3), np.float32))
        for topic in ("/front/points", "/robot/coseg_node/points_labeled", "/robot/coseg_node/points_obstacles"):
            writer.write_cloud(topic, 10**9, "lidar", cloud)
        for topic in ("/camera", "/robot/coseg_node/mask", "/robot/coseg_node/overlay"):
            writer.write_image(topic, 10**9, "camera", np.zeros((4, 4, 3), np.uint8))
    (folder / "parameters.yaml").write_text("/**:\n  ros__parameters:\n    packs: [stool]\n    max_points: 4321\n")
    assert main(["replay", str(folder), "--out", str(tmp_path / "out.mcap")]) == 0
    assert opened[0].max_points == 4321
    assert topics(tmp_path / "out.mcap") == {"label_info": 1, "mask": 1, "objects": 1, "points_labeled": 1}
    assert "parameters of the snapshot" in capsys.readouterr().err
