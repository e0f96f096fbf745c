"""config/ says the same as the code."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import yaml

from support.paths import ROOT, load_tool

YAML = ROOT / "config" / "coseg.yaml"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """tools/generate_settings.py as a module."""
    return load_tool("generate_settings")


def test_generated_files_are_what_the_settings_say(generator: ModuleType) -> None:
    old = [str(path.relative_to(ROOT)) for path, text in generator.texts().items() if path.read_text() != text]
    assert not old, "run: make settings"
    assert YAML in generator.texts()


def test_generator_writes_what_is_out_of_date(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "some.yaml"
    monkeypatch.setattr(generator, "texts", lambda: {file: "a: 1\n"})
    monkeypatch.setattr(generator, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["generate_settings.py", "--check"])
    assert generator.main() == 1 and not file.exists() and "some.yaml: out of date" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["generate_settings.py"])
    assert generator.main() == 0 and file.read_text() == "a: 1\n" and capsys.readouterr().out == "some.yaml: written\n"
    monkeypatch.setattr("sys.argv", ["generate_settings.py", "--check"])
    assert generator.main() == 0 and not capsys.readouterr().out


def test_config_file_holds_every_parameter_with_its_default() -> None:
    """Read as YAML, without the generator."""
    from geoseg_ros.runtime.node_parameters import NodeParameters
    from geoseg_ros.settings import list_settings, with_values

    def flat(tree: dict, prefix: str = "") -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value in tree.items():
            found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        return found

    values = flat(yaml.safe_load(YAML.read_text())["/**"]["ros__parameters"])
    assert list(values) == [entry.name for entry in list_settings(NodeParameters())]
    assert with_values(NodeParameters(), values) == NodeParameters()
    for entry in list_settings(NodeParameters()):
        assert entry.many or type(values[entry.name]) is entry.kind, entry.name


def test_launch_arguments_describe_themselves_and_name_the_choices_of_their_parameters() -> None:
    """Read from the source, so that it needs no ROS."""
    from geoseg_ros.runtime.node_parameters import NodeParameters
    from geoseg_ros.settings import list_settings

    table = {entry.name: entry for entry in list_settings(NodeParameters())}
    for file, least in (("coseg.launch.py", 15), ("demo.launch.py", 1)):
        calls = [node for node in ast.walk(ast.parse((ROOT / "launch" / file).read_text())) if isinstance(node, ast.Call)]
        declarations = [call for call in calls if getattr(call.func, "id", "") in ("_argument", "DeclareLaunchArgument")]
        found = {call.args[0].value: call for call in declarations if isinstance(call.args[0], ast.Constant)}
        assert len(found) >= least, file
        for name, call in found.items():
            text = next((k.value.value for k in call.keywords if k.arg == "description"), None) or call.args[-1].value
            assert len(text) > 10, f"{file}: {name}"
            missing = [choice for choice in (table[name].choices if name in table else ()) if choice not in text]
            assert not missing, f"{file}: {name} does not name {missing}"


def test_node_reads_config_file() -> None:
    rclpy = pytest.importorskip("rclpy", reason="the parameters are declared with rclpy")
    from geoseg_ros.ros.parameters import declare, refuse_unknown
    from geoseg_ros.runtime.node_parameters import NodeParameters

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=101)
    node = rclpy.create_node("coseg_node", namespace="/robot", context=context, cli_args=["--ros-args", "--params-file", str(YAML)])
    try:
        assert len(node._parameter_overrides) > 10
        assert declare(node, NodeParameters()) == NodeParameters()
        refuse_unknown(node)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_fastdds_profile_has_room_for_large_messages() -> None:
    tree = ElementTree.parse(ROOT / "config" / "fastdds_shm.xml")
    space = {"d": "http://www.eprosima.com"}
    kinds = {t.findtext("d:transport_id", namespaces=space): t for t in tree.iterfind(".//d:transport_descriptor", space)}
    used = [t.text for t in tree.iterfind(".//d:userTransports/d:transport_id", space)]
    assert sorted(used) == sorted(kinds)
    shared = next(t for t in kinds.values() if t.findtext("d:type", namespaces=space) == "SHM")
    segment, message = (int(shared.findtext(f"d:{n}", namespaces=space) or 0) for n in ("segment_size", "maxMessageSize"))
    assert segment >= 64 << 20 and 1 << 20 <= message < segment


def test_costmap_example_listens_to_the_obstacles() -> None:
    source = (ROOT / "geoseg_ros" / "ros" / "publishers.py").read_text()
    example = yaml.safe_load((ROOT / "config" / "nav2_costmap_example.yaml").read_text())
    costmap = example["local_costmap"]["local_costmap"]["ros__parameters"]
    layers = {name: costmap[name] for name in costmap["plugins"]}
    sources = {name: layer[name] for layer in layers.values() for name in layer.get("observation_sources", "").split()}
    node, _, topic = sources["concepts"]["topic"].strip("/").partition("/")
    assert node == "coseg_node" and f'"{topic}"' in source and sources["concepts"]["data_type"] == "PointCloud2"
    assert not sources["concepts"]["clearing"] and any(entry["clearing"] for entry in sources.values())
    assert "config/nav2_costmap_example.yaml" in (ROOT / "docs" / "navigation.md").read_text()


def test_aggregator_example_takes_the_diagnostics_of_the_node() -> None:
    example = yaml.safe_load((ROOT / "config" / "diagnostics_aggregator_example.yaml").read_text())["analyzers"]["ros__parameters"]
    (analyzer,) = (entry for entry in example.values() if isinstance(entry, dict))
    source = (ROOT / "geoseg_ros" / "ros" / "diagnostics.py").read_text()
    assert analyzer["expected"] == [f"{start}pipeline" for start in analyzer["startswith"]] and 'f"{self._name}: pipeline"' in source
    assert "config/diagnostics_aggregator_example.yaml" in (ROOT / "docs" / "node.md").read_text()


def test_changelog_has_the_form_of_ros_packages() -> None:
    changelog = pytest.importorskip("catkin_pkg.changelog", reason="catkin_pkg reads it")
    read = changelog.get_changelog_from_path(ROOT / "CHANGELOG.rst", "geoseg_ros")
    versions = [version for version, _, entries in read.foreach_version() if entries]
    assert "0.1.0" in versions and "\nForthcoming\n---" in (ROOT / "CHANGELOG.rst").read_text()
