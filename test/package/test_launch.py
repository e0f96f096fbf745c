"""The launch file starts the node with the topics and parameters that its arguments name (needs ROS 2 launch)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT

launch = pytest.importorskip("launch", reason="ROS 2 launch is not in this environment")
pytest.importorskip("launch_ros", reason="ROS 2 launch_ros is not in this environment")

FILE = ROOT / "launch" / "coseg.launch.py"
CONFIG = ROOT / "config" / "coseg.yaml"


def described() -> tuple[Any, Any]:
    """The module and its launch description."""
    spec = importlib.util.spec_from_file_location("coseg_launch", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.generate_launch_description()


def started(**arguments: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Parameters and remappings of the node that these arguments start."""
    from launch.utilities import perform_substitutions
    from launch_ros.utilities import evaluate_parameters

    module, context = configured(**arguments)
    (node,) = module._coseg_node(context)
    file, parameters = evaluate_parameters(context, node._Node__parameters)
    assert Path(file) == Path(context.launch_configurations["params_file"])
    pairs = {perform_substitutions(context, a): perform_substitutions(context, b) for a, b in node._Node__remappings}
    return dict(parameters), pairs


def configured(**arguments: str) -> tuple[Any, Any]:
    """The module, and a context with these arguments and the defaults of the others."""
    from launch.utilities import perform_substitutions

    module, description = described()
    context = launch.LaunchContext()
    for argument in description.get_launch_arguments():
        if argument.name not in {"params_file", *arguments}:  # its default is looked up in an installed package
            arguments[argument.name] = perform_substitutions(context, argument.default_value)
    context.launch_configurations.update({"params_file": str(CONFIG), **arguments})
    return module, context


def test_defaults_give_both_inputs() -> None:
    parameters, topics = started()
    assert parameters == {"cloud_source": "points", "image_transport": "raw"}
    assert topics == {"~/points": "/points", "~/image": "/image"}


def test_packs_and_topics() -> None:
    parameters, topics = started(packs="a.pack, b.pack", points="/lidar", image="/cam/image/compressed", device="cpu", autostart="false")
    expected = {"cloud_source": "points", "image_transport": "compressed", "device": "cpu", "packs": ("a.pack", "b.pack")}
    assert parameters.pop("autostart") is False
    assert {k: tuple(v) if k == "packs" else v for k, v in parameters.items()} == expected
    assert topics == {"~/points": "/lidar", "~/image/compressed": "/cam/image/compressed"}


@pytest.mark.parametrize("text", ["[a.pack,b.pack]", "a.pack,b.pack", "['a.pack', \"b.pack\"]", "[a.pack, b.pack,]"])
def test_packs_as_a_list(text: str) -> None:
    assert list(started(packs=text)[0]["packs"]) == ["a.pack", "b.pack"]


def test_home_in_packs_and_params_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "robot.yaml").write_text("/**:\n  ros__parameters:\n    packs: [mug]\n")
    module, context = configured(packs="~/a.pack", params_file="~/robot.yaml")
    assert module._parameters(context)["packs"] == [str(tmp_path / "a.pack")]
    assert module._coseg_node(context)


def test_a_file_of_parameters_is_left_alone_unless_something_is_given(tmp_path: Path) -> None:
    file = tmp_path / "robot.yaml"
    file.write_text("/**:\n  ros__parameters:\n    cloud_source: depth\n    image_transport: none\n")
    assert started(params_file=str(file)) == ({}, {})
    parameters, topics = started(params_file=str(file), points="/lidar")
    assert parameters == {"cloud_source": "points"} and topics == {"~/points": "/lidar"}
    assert started(params_file=str(file), image="none")[0] == {"image_transport": "none"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"params_file": "/absent.yaml"}, "params_file: /absent.yaml does not exist"),
        ({"packs": "/"}, "packs: / is a folder"),
        ({"bag": "/absent"}, "bag: /absent does not exist"),
        ({"preset": "submarine"}, "preset: expected one of lidar, depth_camera, tabletop"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, str], line: str) -> None:
    module, context = configured(**arguments)
    with pytest.raises(module.BadArgument, match=line):
        module._coseg_node(context)
        module._player(context)


def test_presets_and_what_beats_them() -> None:
    parameters, topics = started(preset="depth_camera")
    assert parameters == {"cloud_source": "depth", "image_transport": "raw"}
    assert topics["~/depth"] == "/camera/depth/image_rect" and topics["~/color"] == topics["~/image"] == "/camera/color/image_raw"
    assert started(preset="depth_camera", image="none", depth="/d/image")[1]["~/depth"] == "/d/image"
    assert started(preset="tabletop")[0] == {"cloud_source": "points", "image_transport": "none"}


def test_time_of_the_recording() -> None:
    assert started(clock="true")[0]["use_sim_time"] is True
    assert started(use_sim_time="true")[0]["use_sim_time"] is True
    assert started(clock="true", use_sim_time="false")[0]["use_sim_time"] is False
    assert "use_sim_time" not in started()[0]


def test_rviz_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from launch.actions import LogInfo

    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    module, context = configured(rviz="true")
    (instead,) = module._rviz(context)
    assert isinstance(instead, LogInfo)
    assert module._rviz(configured()[1]) == []


def test_shared_memory_is_used_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    from launch.actions import LogInfo, SetEnvironmentVariable

    module, context = configured()
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE", raising=False)

    class Room:
        f_bavail, f_frsize = 1 << 18, 4096

    monkeypatch.setattr(module.os, "statvfs", lambda path: Room)
    assert isinstance(module._shared_memory(context)[0], SetEnvironmentVariable)
    assert module._shared_memory(configured(fastdds_shm="false")[1]) == []
    Room.f_bavail = 1 << 14  # 64 MiB: Docker as it comes
    assert isinstance(module._shared_memory(context)[0], LogInfo)
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "/mine.xml")
    assert module._shared_memory(context) == []


def test_depth_takes_the_place_of_points() -> None:
    parameters, topics = started(depth="/camera/depth/image_raw", image="none", points="none", target_frame="odom")
    assert parameters == {"cloud_source": "depth", "image_transport": "none", "target_frame": "odom"}
    parameters, _ = started(map="home.map", target_frame="map")
    assert (parameters["map.enabled"], parameters["map.file"], parameters["target_frame"]) == (True, "home.map", "map")
    assert topics == {"~/depth": "/camera/depth/image_raw", "~/camera_info": "/camera/depth/camera_info"}


def test_backend_and_building() -> None:
    parameters, _ = started(backend="tensorrt", build_only="true")
    assert parameters["backend"] == "tensorrt" and parameters["build_only"] is True
    assert "build_only" not in started(build_only="false")[0]


def test_arguments_are_described() -> None:
    arguments = described()[1].get_launch_arguments()
    assert len(arguments) <= 26 and all(len(a.description) > 10 for a in arguments)


def test_parameters_exist_in_the_node() -> None:
    from geoseg_ros.runtime.node_parameters import NodeParameters
    from geoseg_ros.settings import list_settings

    table = {entry.name: entry for entry in list_settings(NodeParameters())}
    every = {"depth": "/d", "device": "cuda", "packs": "a", "backend": "torch", "build_only": "1"}
    for given in ({}, every, {"points": "none", "image": "/i/compressed"}):
        for name, value in started(**given)[0].items():
            choices = table[name].choices
            assert not choices or value in choices, name


def test_several_topics_of_a_kind_become_lists() -> None:
    parameters, topics = started(points="/front/points, /rear/points", image="[/left/image,/right/image/compressed]", target_frame="odom")
    assert {name: list(value) if name.endswith("_topics") else value for name, value in parameters.items()} == {
        "point_topics": ["/front/points", "/rear/points"],
        "image_topics": ["/left/image", "/right/image/compressed"],
        "cloud_source": "points",
        "image_transport": "raw",
        "target_frame": "odom",
    }
    assert topics == {}
    parameters, topics = started(points="/a,/b", depth="/c/depth", color="none", image="/i")
    listed = {name: list(value) for name, value in parameters.items() if name.endswith("_topics")}
    assert listed == {"point_topics": ["/a", "/b"], "depth_topics": ["/c/depth"]} and topics == {"~/image": "/i"}
