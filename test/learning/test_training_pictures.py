"""The tool that writes pictures for the distillation."""

import numpy as np
import pytest

from geoseg_ros.io.folders import read_image
from support.paths import load_tool


@pytest.fixture(scope="module")
def tool():
    return load_tool("write_training_pictures")


@pytest.mark.slow
def test_rooms_and_views_in_colour_and_shaded_are_written(tool, tmp_path, capsys):
    out = tmp_path / "rooms"
    assert tool.main(["--rooms", "1", "--clouds", "1", "--out", str(out)]) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names[-1] == "room_00000.png" and f"{len(names)} pictures" in capsys.readouterr().out
    shaded, depth = ([read_image(out / name) for name in names if name.startswith(f"cloud_0000{k}")] for k in (0, 1))
    assert all(view.shape == (tool.SIZE, tool.SIZE, 3) for view in shaded + depth) and shaded and len(depth) % 2 == 0
    assert all(np.ptp(view.astype(int), axis=2).max() == 0 for view in shaded)  # the LiDAR sees no colour
    assert max(np.ptp(view.astype(int), axis=2).max() for view in depth) > 20


def test_a_folder_that_holds_something_is_refused(tool, tmp_path, capsys):
    (tmp_path / "photo.png").write_bytes(b"")
    assert tool.main(["--out", str(tmp_path)]) == 2
    assert "expected a new or an empty folder" in capsys.readouterr().err
