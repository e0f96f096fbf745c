"""Is everything here that `make setup` needs from the system? Prints one line and exits 1 if not."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import sys
import sysconfig

# shared libraries that Open3D's wheels expect, and the Debian/Ubuntu packages that bring them
LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libgomp.so.1": "libgomp1",
    "libidn2.so.0": "libidn2-0",
    "libusb-1.0.so.0": "libusb-1.0-0",
}


def loads(library: str) -> bool:
    """Whether the dynamic loader finds a shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def missing() -> list[str]:
    """What is missing, each with the Debian/Ubuntu package that brings it."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    wanted = [
        (importlib.util.find_spec("ensurepip") is not None, f"Python's venv module ({python}-venv)"),
        (os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")), f"Python's headers ({python}-dev)"),
        (shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang"), "a C compiler (gcc)"),
        (shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++") or shutil.which("clang++"), "a C++ compiler (g++)"),
        *((loads(library), package) for library, package in LIBRARIES.items()),
    ]
    return [text for found, text in wanted if not found]


if __name__ == "__main__":
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        sys.exit(f"geoseg_ros needs Python 3.10 to 3.13, and {sys.executable} is {sys.version.split()[0]}: make PYTHON=python3.11 ...")
    if missing():
        sys.exit(f"geoseg_ros needs from the system: {'; '.join(missing())}. On Debian and Ubuntu these are apt packages.")
