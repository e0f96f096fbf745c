"""pip's way in. CMakeLists.txt stays the one description of the messages and shared files; see pyproject.toml for the rest.

Where the ROS 2 message generators are present (a sourced distribution, or the ROS wheels in this environment), the messages are
built and travel inside the wheel; elsewhere the ROS-free core is installed alone. With ``pip install -e .`` the Python modules
stay in the source tree and everything else goes into the environment as usual, so nothing is written into the source tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Command, Distribution, setup
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent


def generator_prefixes() -> list[Path]:
    """The ament prefixes to build against: empty when none holds the message generators."""
    variable = os.environ.get("AMENT_PREFIX_PATH")
    prefixes = [Path(p) for p in variable.split(os.pathsep) if p] if variable else [Path(sys.prefix)]
    found = any((p / "share/rosidl_default_generators").is_dir() for p in prefixes)
    return prefixes if found else []


def cmake_environment(prefixes: list[Path]) -> dict[str, str]:
    """pip's build isolation hides the installed Python packages, which the generators need; name them again."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = [p / f for p in prefixes for f in (f"lib/{version}/site-packages", f"local/lib/{version}/dist-packages")]
    environment = dict(os.environ)
    environment["AMENT_PREFIX_PATH"] = environment["CMAKE_PREFIX_PATH"] = os.pathsep.join(map(str, prefixes))
    environment["PYTHONPATH"] = os.pathsep.join(str(f) for f in folders if f.is_dir())
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    return environment


class BuildMessages(Command):
    """Build and install CMakeLists.txt into a staging folder, and hand that tree to the wheel as data files."""

    description = "build the ROS 2 messages with CMake"
    user_options: list[tuple[str, str, str]] = []
    editable_mode = False  # set by setuptools

    def initialize_options(self) -> None:
        self.build_base: str | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_base", "build_base"))

    def run(self) -> None:
        prefixes = generator_prefixes()
        if not prefixes:
            print("geoseg_ros: no ROS 2 message generators found: installing the ROS-free core without geoseg_ros.msg and nodes")
            return
        work = (ROOT / self.build_base / f"messages-{sysconfig.get_platform()}-{sys.implementation.cache_tag}").resolve()
        stage = work / "stage"
        shutil.rmtree(stage, ignore_errors=True)
        environment = cmake_environment(prefixes)
        cmake = shutil.which("cmake", path=environment["PATH"])
        if cmake is None:
            raise SystemExit("geoseg_ros: cmake is needed to build the ROS 2 messages: pip install cmake, or the system package cmake")
        generator = ["-G", "Ninja"] if shutil.which("ninja", path=environment["PATH"]) else []
        for arguments in (
            [
                *("-S", str(ROOT), "-B", str(work / "cmake"), *generator),
                *(f"-DCMAKE_INSTALL_PREFIX={stage}", f"-DPython3_EXECUTABLE={sys.executable}"),
                *("-DBUILD_TESTING=OFF", "-DGEOSEG_INSTALL_PYTHON=OFF", "--no-warn-unused-cli"),
            ],
            ["--build", str(work / "cmake"), "--parallel", str(os.cpu_count() or 1)],
            ["--install", str(work / "cmake")],
        ):
            subprocess.run([cmake, *arguments], check=True, env=environment)
        self.add_data_files(stage)
        if self.editable_mode:
            self.run_command("install_data")  # into the editable wheel; setuptools itself does so for plain wheels only

    def add_data_files(self, stage: Path) -> None:
        """Everything below lib/ and share/, except what serves only C++ users or is replaced by our own modules."""
        generated = next(stage.glob("**/geoseg_ros/msg/__init__.py")).parents[1]
        packages = os.path.relpath(sysconfig.get_path("platlib"), sysconfig.get_path("data"))
        by_folder: dict[str, list[str]] = {}
        for file in sorted(p for p in stage.rglob("*") if p.is_file() and p.parent.name != "__pycache__" and p.suffix != ".c"):
            folder = file.parent.relative_to(stage).as_posix()
            if generated in file.parents:
                if file == generated / "__init__.py":
                    continue
                folder = f"{packages}/geoseg_ros/{file.parent.relative_to(generated).as_posix()}"
            elif generated.parent in file.parents or folder.startswith(("include", "share/geoseg_ros/cmake")):
                continue
            by_folder.setdefault(os.path.normpath(folder), []).append(os.path.relpath(file, ROOT))
        self.distribution.data_files.extend(by_folder.items())

    def get_source_files(self) -> list[str]:
        folders = [ROOT / name for name in ("cmake", "config", "launch", "msg", "srv")]
        return ["CMakeLists.txt", "package.xml", *(os.path.relpath(p, ROOT) for f in folders for p in sorted(f.iterdir()))]

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Build(build):
    sub_commands = [*build.sub_commands, ("build_messages", None)]


class MessageDistribution(Distribution):
    """A wheel with messages belongs to one platform and one Python."""

    def has_ext_modules(self) -> bool:
        return bool(generator_prefixes())


setup(cmdclass={"build": Build, "build_messages": BuildMessages}, distclass=MessageDistribution, data_files=[])
