"""The costmap example against what nav2's layers declare (nav2_costmap_2d/plugins, Humble to Lyrical) and what the node publishes."""

import pytest
import yaml

pytest.importorskip("rclpy")

from sensor_msgs.msg import PointCloud2

from support.paths import ROOT

LAYER = {"plugin", "enabled", "footprint_clearing_enabled", "combination_method", "observation_sources"}
HEIGHTS = {"min_obstacle_height", "max_obstacle_height"}
SOURCE = {
    *("topic", "sensor_frame", "observation_persistence", "expected_update_rate", "data_type", "inf_is_valid", "marking", "clearing"),
    *("obstacle_max_range", "obstacle_min_range", "raytrace_max_range", "raytrace_min_range"),
}
SOURCE_MAX_HEIGHT = 0.0  # default of nav2


@pytest.fixture(scope="module")
def costmap():
    text = (ROOT / "config" / "nav2_costmap_example.yaml").read_text()
    return yaml.safe_load(text)["local_costmap"]["local_costmap"]["ros__parameters"]


@pytest.fixture(scope="module")
def layer(costmap):
    return costmap["obstacle_layer"]


def test_nav2_knows_every_setting_of_the_layer_and_its_sources(layer):
    sources = layer["observation_sources"].split()
    assert set(layer) <= LAYER | HEIGHTS | set(sources)
    for name in sources:
        assert set(layer[name]) <= SOURCE | HEIGHTS and layer[name]["data_type"] in ("LaserScan", "PointCloud2")


def test_no_height_leaves_a_source_out(layer):
    for name in layer["observation_sources"].split():
        low, high = layer[name].get("min_obstacle_height", 0.0), layer[name].get("max_obstacle_height", SOURCE_MAX_HEIGHT)
        assert low < high
        assert layer["min_obstacle_height"] <= low and high <= layer["max_obstacle_height"], "the layer's heights hold on top"


def test_the_concepts_mark_and_the_scan_clears_as_far(costmap, layer):
    scan, concepts = layer["scan"], layer["concepts"]
    assert concepts["marking"] and not concepts["clearing"] and scan["clearing"]
    assert scan["raytrace_max_range"] >= concepts["obstacle_max_range"] > 0.5 * costmap["width"]
    assert concepts["sensor_frame"] == costmap["robot_base_frame"], "ranges hold for any frame of the cloud"
    assert concepts["observation_persistence"] > 0 and concepts["expected_update_rate"] == 0


@pytest.mark.dds
def test_the_topic_is_the_nodes(live, layer):
    publisher = next(p for p in live().node.publishers if p.topic_name == layer["concepts"]["topic"])
    assert publisher.msg_type is PointCloud2
