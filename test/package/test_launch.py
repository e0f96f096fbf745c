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

    module, description = described()
    context = launch.LaunchContext()
    for argument in description.get_launch_arguments():
        if argument.name not in {"params_file", *arguments}:  # its default is looked up in an installed package
            arguments[argument.name] = perform_substitutions(context, argument.default_value)
    context.launch_configurations.update({"params_file": str(FILE), **arguments})
    (node,) = module._coseg_node(context)
    file, parameters = evaluate_parameters(context, node._Node__parameters)
    assert Path(file) == Path(context.launch_configurations["params_file"])
    pairs = {perform_substitutions(context, a): perform_substitutions(context, b) for a, b in node._Node__remappings}
    return dict(parameters), pairs


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


def test_depth_takes_the_place_of_points() -> None:
    parameters, topics = started(depth="/camera/depth/image_raw", image="none", points="none", target_frame="odom")
    assert parameters == {"cloud_source": "depth", "image_transport": "none", "target_frame": "odom"}
    assert topics == {"~/depth": "/camera/depth/image_raw", "~/camera_info": "/camera/depth/camera_info"}


def test_backend_and_building() -> None:
    parameters, _ = started(backend="tensorrt", build_only="true")
    assert parameters["backend"] == "tensorrt" and parameters["build_only"] is True
    assert "build_only" not in started(build_only="false")[0]


def test_arguments_are_few_and_described() -> None:
    arguments = described()[1].get_launch_arguments()
    assert len(arguments) <= 17 and all(len(a.description) > 10 for a in arguments)


def test_parameters_exist_in_the_node() -> None:
    from geoseg_ros.runtime.node_parameters import NodeParameters
    from geoseg_ros.settings import list_settings

    table = {entry.name: entry for entry in list_settings(NodeParameters())}
    every = {"depth": "/d", "device": "cuda", "packs": "a", "backend": "torch", "build_only": "1"}
    for given in ({}, every, {"points": "none", "image": "/i/compressed"}):
        for name, value in started(**given)[0].items():
            choices = table[name].choices
            assert not choices or value in choices, name
