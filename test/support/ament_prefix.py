"""A tiny ament prefix with the package's launch files and configuration, and a ``coseg_node`` with a quick pipeline."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from support.paths import ROOT

FAKE_NODE = ROOT / "test" / "support" / "fake_pipeline.py"


def make_prefix(folder: Path) -> None:
    """Write the prefix to ``folder`` and put it first on ``AMENT_PREFIX_PATH``."""
    marker = folder / "share" / "ament_index" / "resource_index" / "packages" / "geoseg_ros"
    marker.parent.mkdir(parents=True)
    marker.touch()
    share, programs = folder / "share" / "geoseg_ros", folder / "lib" / "geoseg_ros"
    share.mkdir(parents=True)
    programs.mkdir(parents=True)
    for name in ("launch", "config"):
        (share / name).symlink_to(ROOT / name)
    paths = f"sys.path[:0] = {[str(ROOT), str(ROOT / 'test')]!r}"
    for name, code in (("coseg_node", f"runpy.run_path({str(FAKE_NODE)!r}, run_name='__main__')"), ("geoseg", "sys.exit(main())")):
        lines = [
            f"#!{sys.executable}",
            "import runpy, sys",
            paths,
            "from geoseg_ros.cli.main import main",
            code,
        ]
        program = programs / name
        program.write_text("\n".join(lines) + "\n")
        program.chmod(0o755)
    os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join([str(folder), *filter(None, [os.environ.get("AMENT_PREFIX_PATH")])])
