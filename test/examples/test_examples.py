"""The examples, run as a reader would run them."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from geoseg_ros import api, cosegment
from geoseg_ros.cli.main import main
from geoseg_ros.errors import InputError
from geoseg_ros.io.cloud_files import write_ply
from geoseg_ros.io.folders import write_image
from geoseg_ros.io.pack_frames import pack_frames
from geoseg_ros.methods.base import Context, Material
from geoseg_ros.methods.registry import method_names, open_method
from geoseg_ros.packs.pack import Pack
from geoseg_ros.runtime.pipeline import Pipeline
from support.fake_world import picture, table
from support.paths import PYTHONPATH, ROOT

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"


@pytest.fixture
def own_method(tmp_path, monkeypatch):
    """The example is installed: what pip would leave behind is on the path."""
    info = tmp_path / "site" / "own_method-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-method\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[geoseg.methods]\ncolour = own_method:ColourMethod\nbroken = own_method:np\n")
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.fixture(scope="module")
def red_folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("red")
    for k in range(4):
        write_image(root / "images" / f"{k}.png", picture(k, ("red", "green"))[0])
        write_ply(root / "clouds" / f"{k}.ply", table(k, ("red", "cyan"))[0])
    return root


def middle_red(k):
    image = np.full((90, 90, 3), 120, np.uint8)
    image[25:65, 25:65] = (220, 30 + k, 30)
    return image


def test_own_method_lives_in_under_60_lines():
    assert len((EXAMPLES / "own_method.py").read_text().splitlines()) < 60


def test_own_method_learns_and_is_run_by_the_pipeline(own_method, fake_backbone, fake_packs, tmp_path):
    assert method_names() == ["contrast", "geofree", "pointdc", "hicl", "broken", "colour"]
    pack = open_method("colour").learn(Material("red", [middle_red(k) for k in range(3)]), Context(fake_backbone))
    pack.save(tmp_path / "red.pack")
    # beside a pack of another method, in one pass; where both label a place the smaller p-value wins
    pipeline = Pipeline(fake_backbone, [Pack.load(tmp_path / "red.pack"), fake_packs["blue"]])
    image, truth = picture(70, ("red", "blue", "green"))
    result = pipeline.process_image(image)
    assert ((result.mask == 1) == truth).mean() > 0.98
    assert [p.name for p in result.presence] == ["red", "blue"] and all(p.present for p in result.presence)
    cloud, of = table(70, ("red", "blue", "green"))
    found = pipeline.process_cloud(cloud)
    assert ((found.label == 1) == (of == 1)).mean() > 0.98 and (found.label == 2)[of == 2].mean() > 0.8
    assert {o.name for o in found.objects} == {"red", "blue"}


def test_own_method_co_segments_a_set(own_method, fake_backbone, fake_bank, monkeypatch):
    monkeypatch.setattr(api, "open_bank", lambda backbone, progress: fake_bank)
    found = cosegment([middle_red(k) for k in range(3)], method="colour", backbone=fake_backbone)
    assert [image.present for image in found.images] == [True] * 3 and found.common and found.common_p_value is None
    assert found.images[1].mask[30:60, 30:60].all() and found.images[1].mask.sum() == 40 * 40


def test_what_is_no_method_is_refused_by_name(own_method):
    with pytest.raises(InputError, match="method 'absent': expected one of contrast, geofree, pointdc, hicl, broken, colour"):
        open_method("absent")
    with pytest.raises(InputError, match="method 'broken': cannot be opened"):
        open_method("broken")


def test_own_method_trains_by_the_command(own_method, red_folders, tmp_path, capsys):
    assert (
        main(["train", "--name", "red", "--method", "colour", "--images", str(red_folders / "images"), "--out", str(tmp_path / "a.pack")])
        == 0
    )
    assert Pack.load(tmp_path / "a.pack").method == "colour"
    assert (
        main(["train", "--name", "red", "--method", "none", "--images", str(red_folders / "images"), "--out", str(tmp_path / "b.pack")])
        == 2
    )
    assert "method 'none': expected one of contrast" in capsys.readouterr().err


def run(tmp_path, *command):
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = os.environ | {"PYTHONPATH": PYTHONPATH, "PATH": path}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_python_api(red_folders, tmp_path):
    out = run(tmp_path, sys.executable, EXAMPLES / "python_api.py", red_folders / "images", red_folders / "clouds", tmp_path / "out")
    assert "something in common: " in out and out.count("of the pixels") == 4
    masks = [np.load(tmp_path / "out" / f"{k}_mask.npy") for k in range(4)]
    labels = [np.load(tmp_path / "out" / f"{k}_label.npy") for k in range(4)]
    assert all(mask.dtype == bool and mask.shape == (96, 128) for mask in masks)
    assert all(label.dtype == np.uint32 and label.max() <= 1 for label in labels)
    assert Pack.load(tmp_path / "out" / "mug.pack").name == "mug"


@pytest.mark.slow
def test_bag_to_pack(red_folders, tmp_path):
    pack_frames(red_folders / "clouds", red_folders / "images", tmp_path / "drive.mcap")
    run(tmp_path, EXAMPLES / "bag_to_pack.sh", tmp_path / "drive.mcap", "/camera/image_raw", "/lidar/points", "red", tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"red.pack", "found.mcap", "found.png"}
