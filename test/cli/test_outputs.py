"""No command destroys what is not its own, and what cannot be written is told before the work."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from geoseg_ros.cli.main import main
from geoseg_ros.errors import InputError
from geoseg_ros.files import check_output
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.cloud_files import write_ply
from geoseg_ros.io.folders import write_image
from geoseg_ros.io.recordings import RecordingWriter, is_own_recording
from geoseg_ros.packs.pack import find_pack

STOOL = str(find_pack("stool"))


def contents(root: Path) -> dict[str, bytes]:
    """Relative name -> bytes of every file."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with recordings, pictures, clouds, a pack and files of the user; commands run in it."""
    monkeypatch.chdir(tmp_path)
    cloud = Cloud(np.zeros((4, 3), np.float32))
    for name in ("drive", "drive2", "own.mcap", "own.db3"):
        with RecordingWriter(tmp_path / name) as writer:
            writer.write_cloud("/points", 10**9, "lidar", cloud)
            writer.write_image("/image", 10**9, "camera", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "drive2" / "notes.txt").write_text("mine")
    foreign = (tmp_path / "own.mcap").read_bytes().replace(b"geoseg_ros:", b"other_tool:")
    (tmp_path / "foreign.mcap").write_bytes(foreign)
    write_image(tmp_path / "photos" / "a.png", np.zeros((8, 8, 3), np.uint8))
    write_ply(tmp_path / "scans" / "a.ply", cloud)
    write_image(tmp_path / "photo.jpg", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "mine").mkdir()
    for name in ("a.png", "a.ply", "report.json", "truth.npz", "report.md", "stool"):
        (tmp_path / "mine" / name).write_text("mine")
    (tmp_path / "mug.pack").write_bytes(Path(STOOL).read_bytes())
    return tmp_path


CASES = [
    ("replay drive --packs stool --out drive", "is also an input"),
    ("replay drive --packs stool --out drive/drive.mcap", "lies in the input"),
    ("replay drive/metadata.yaml --packs stool --out drive/new.mcap", "lies in the input"),
    ("replay drive/drive.mcap --packs stool --out drive", "holds the input"),
    ("replay own.mcap --packs stool --out ./own.mcap", "is also an input"),
    ("replay own.mcap --packs stool --out link.mcap", "is also an input"),
    ("replay drive --packs stool --out foreign.mcap", "not a recording made by geoseg"),
    ("replay drive --packs stool --out drive2", "not a recording made by geoseg"),
    ("replay drive --packs stool --out photo.jpg", "not a recording made by geoseg"),
    ("replay drive --packs mug.pack --out mug.pack", "is also an input"),
    ("replay drive --packs stool --params-file mine/report.md --out mine/report.md", ""),
    ("train --name a --images photos --out photo.jpg", "exists and is not a pack"),
    ("train --name a --images photos --out own.mcap", "exists and is not a pack"),
    ("train --name a --images photos --out photos/a.png", "lies in the input"),
    ("train --name a --images photos --out photos/new.pack", "lies in the input"),
    ("train --name a --images drive --out drive/metadata.yaml", "lies in the input"),
    ("train --name a --images drive/metadata.yaml --out drive/metadata.yaml", ""),
    ("coseg --images photos --save-pack photo.jpg --out result", "--save-pack: photo.jpg exists and is not a pack"),
    ("coseg --images photos --save-pack photos/a.png --out result", "lies in the input"),
    ("coseg --images photos --out photos/result", "lies in the input"),
    ("coseg --images photos --out mine", "mine/a.png exists"),
    ("coseg --clouds scans --out mine", "mine/a.ply exists"),
    ("bank --images photos --out photo.jpg", "not a background bank"),
    ("bank --images photos --out mug.pack", "not a background bank"),
    ("pack-frames --images photos --out photos", "is also an input"),
    ("pack-frames --images photos --out foreign.mcap", "not a recording made by geoseg"),
    ("pack-frames --images photos --out mine", "not a recording made by geoseg"),
    ("record-demo --out mine --seconds 1", "mine/truth.npz exists"),
    ("record-demo --training mine --concepts stool", "mine/stool exists"),
    ("distill --teacher onnx:mug.pack --images photos --minutes 1 --out photos/a.safetensors", "lies in the input"),
    ("view drive --save drive/x.rrd", "lies in the input"),
    ("view drive --screenshot drive/x.png", "lies in the input"),
    ("evaluate --table world --out photo.jpg", "expected a file with .md"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "reason"), CASES, ids=[line for line, _ in CASES])
def test_what_is_not_its_own_stays(place: Path, line: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.symlink("own.mcap", place / "link.mcap")
    before = contents(place)
    assert main(line.split()) == 2
    told = capsys.readouterr()
    assert reason in told.err and told.err.count("\n") == 1
    assert contents(place) == before and not (place / "result").exists()


@pytest.mark.parametrize(
    "line",
    [
        "replay drive --packs stool --out OUT",
        "train --name a --images photos --out OUT",
        "coseg --images photos --save-pack OUT --out result",
        "coseg --images photos --out OUT",
        "bank --images photos --out OUT",
        "pack-frames --images photos --out OUT",
        "record-demo --out OUT",
        "record-demo --training OUT",
        "view drive --screenshot OUT",
    ],
)
@pytest.mark.parametrize("place_of", ["/proc/none/{}", "n" * 300, "photo.jpg/{}"], ids=["read only", "long name", "below a file"])
def test_what_cannot_be_written_is_told_first(
    place: Path, line: str, place_of: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from geoseg_ros.backbones import registry

    monkeypatch.setattr(registry, "open_backbone", lambda *_: pytest.fail("work before the output was tried"))
    out = place_of.format("x.png" if "screenshot" in line else "x")
    out += ".png" if "screenshot" in line and not out.endswith(".png") else ""
    assert main(line.replace("OUT", out).split()) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_own_results_are_replaced(place: Path) -> None:
    for name in ("drive", "own.mcap", "own.db3"):
        assert is_own_recording(place / name)
        with RecordingWriter(place / name) as writer:
            writer.write_image("/image", 0, "camera", np.zeros((4, 4), np.uint8))
    assert not any(is_own_recording(place / name) for name in ("drive2", "foreign.mcap", "photo.jpg", "mine", "absent"))
    check_output(place / "mug.pack", "--out", ["photos"])
    with pytest.raises(InputError, match="also an input"):
        check_output("photos/../drive", "--out", ["drive"])
    for _ in range(2):
        assert main(["record-demo", "--training", "new", "--concepts", "stool", *["--training-clouds", "1", "--training-images", "1"]]) == 0
