"""``geoseg train`` and ``geoseg bank``, end to end on small folders."""

import json

import numpy as np
import pytest

from geoseg_ros.backbones import registry as backbones
from geoseg_ros.cli import recipe
from geoseg_ros.cli.train import CHECKED
from geoseg_ros.io.cloud_files import write_ply
from geoseg_ros.io.folders import read_image, write_image
from geoseg_ros.io.pack_frames import pack_frames
from geoseg_ros.methods.contrast import observations as observe
from geoseg_ros.packs.bank import find_bank, load_bank
from geoseg_ros.packs.pack import Pack
from geoseg_ros.projection import scene
from geoseg_ros.simulation.background import BackgroundConfig
from support.fake_world import CONFIG, picture
from support.learning_cases import run


def test_training_goes_on_after_ctrl_c_and_sees_what_has_changed(fake, folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    images = tmp_path / "images"
    for k in range(5):
        write_image(images / f"{k}.png", picture(k, ("red", "green"))[0])
    given = ["train", "--name", "red", "--images", images, "--clouds", folders / "clouds"]
    tokens, analyse, seen = observe.photo_tokens, scene.analyse_cloud, []

    def interrupted(cloud, config):
        raise KeyboardInterrupt

    monkeypatch.setattr(observe, "photo_tokens", lambda *arguments: seen.append(1) or tokens(*arguments))
    monkeypatch.setattr(scene, "analyse_cloud", interrupted)
    assert run(capsys, *given, "--out", tmp_path / "a.pack")[0] == 130
    assert not (tmp_path / "a.pack").exists() and (tmp_path / ".a.pack.unfinished").is_dir()
    scales = len(CONFIG.train.scales)
    assert len(seen) == 5 * scales

    monkeypatch.setattr(scene, "analyse_cloud", analyse)
    write_image(images / "3.png", picture(77, ("red", "green"))[0])
    assert run(capsys, *given, "--out", tmp_path / "a.pack")[0] == 0
    assert len(seen) == 6 * scales  # the new picture alone
    assert not (tmp_path / ".a.pack.unfinished").exists()
    assert run(capsys, *given, "--out", tmp_path / "b.pack")[0] == 0
    assert (tmp_path / "a.pack").read_bytes() == (tmp_path / "b.pack").read_bytes()


def test_bad_input_leaves_nothing_behind(fake, folders, tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.ply").write_bytes(b"no cloud")
    given = ["--images", folders / "images", "--clouds", tmp_path / "bad"]
    for command in (["train", "--name", "x", *given, "--out", tmp_path / "x.pack"], ["coseg", *given, "--out", tmp_path / "x"]):
        code, _, err = run(capsys, *command)
        assert code == 2 and err.count("\n") == 1
        assert [p.name for p in tmp_path.iterdir()] == ["bad"]


def test_train_from_folders(fake, folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    given = ["--name", "red", "--images", folders / "images", "--clouds", folders / "clouds"]
    code, out, err = run(capsys, "train", *given, "--out", tmp_path / "a.pack")
    assert code == 0
    assert f"{tmp_path / 'a.pack'}: concept 'red'" in out and "learnt from 6 images and 3 clouds" in out and "not held out" in out
    assert "warning: no --without" in err and "warning: only 3 clouds" in err
    code, out, err = run(capsys, "train", *given, "--out", tmp_path / "b.pack", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["self_check"]["held_out"] is False
    assert (told["self_check"]["images"], told["self_check"]["clouds"], told["self_check"]["clouds_present"]) == (6, 3, 3)
    assert told["version"] == Pack.load(tmp_path / "b.pack").version
    assert (tmp_path / "a.pack").read_bytes() == (tmp_path / "b.pack").read_bytes()


def test_train_from_a_recording_takes_messages_spread_over_it(fake, folders, tmp_path, capsys):
    pack_frames(folders / "clouds", folders / "images", tmp_path / "bag")
    code, out, err = run(
        capsys, "train", "--name", "red", "--images", tmp_path / "bag", "--clouds", tmp_path / "bag", "--limit", "2",
        "--without", folders / "without", "--out", tmp_path / "red.pack", "--json",
    )  # fmt: skip
    assert code == 0, err
    training = json.loads(out)["training"]
    assert {k: training[k] for k in ("images", "clouds", "without_images", "without_clouds")} == {
        "images": 2, "clouds": 2, "without_images": 3, "without_clouds": 1,
    }  # fmt: skip
    code, _, err = run(capsys, "train", "--name", "red", "--images", tmp_path / "bag", "--image", "/other", "--out", tmp_path / "x.pack")
    assert code == 2 and "no topic /other, it has /camera/image_raw, /lidar/points" in err


def test_a_weak_pack_is_told(fake, tmp_path, capsys):
    for k in range(3):
        noise = np.random.default_rng(k).integers(90, 160, (60, 80, 3), dtype=np.uint8)
        write_image(tmp_path / "images" / f"{k}.png", noise)
    code, out, err = run(capsys, "train", "--name", "x", "--images", tmp_path / "images", "--out", tmp_path / "x.pack", "--json")
    assert code == 0
    warnings = json.loads(out)["warnings"]
    assert any(line.startswith("only 3 images") for line in warnings)


def test_bank_command(monkeypatch, fake_backbone, tmp_path, capsys):
    monkeypatch.setattr(backbones, "open_backbone", lambda spec, device="cpu": fake_backbone)
    for k in range(4):
        write_image(tmp_path / "photos" / "deep" / f"{k}.png", picture(k, ("green",))[0])
    (tmp_path / "photos" / "deep" / "0.png").write_bytes(b"no picture")
    code, out, err = run(
        capsys, "bank", "--images", tmp_path / "photos", "--every", "2", "--pictures", "1", "--clouds", "1",
        "--out", tmp_path / "bank.safetensors", "--json",
    )  # fmt: skip
    assert code == 0, err
    told = json.loads(out)
    assert told["pictures"] == 2 and len(told["skipped"]) == 1
    bank = load_bank(tmp_path / "bank.safetensors")
    assert bank.backbone_hash == fake_backbone.hash and len(bank.photos) == 2
    assert "2 from photos" in bank.source and str(tmp_path) not in bank.source

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run(capsys, "bank", "--pictures", "1", "--clouds", "0")[0] == 0
    assert find_bank(fake_backbone) is not None


def test_train_and_coseg_with_the_shipped_backbone_on_procedural_rooms(tmp_path, capsys):
    from geoseg_ros.simulation.sets import concept_set

    made = concept_set("chair", 3, 5, seed=3, preset="tiny", sensor="depth", n_without_images=2)
    for kind, items in (("images", made.images), ("without", made.without_images)):
        for k, item in enumerate(items):
            write_image(tmp_path / kind / f"{k}.png", item.rgb)
    for k, item in enumerate(made.clouds):
        write_ply(tmp_path / "clouds" / f"{k}.ply", item.cloud)
    given = ["--images", tmp_path / "images", "--clouds", tmp_path / "clouds", "--without", tmp_path / "without"]
    code, out, err = run(capsys, "train", "--name", "chair", *given, "--out", tmp_path / "chair.pack", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["backbone"] == "geoseg_tiny" and told["bytes"] < 8e6
    code, out, err = run(capsys, "coseg", *given, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert len(summary["images"]) == 5 and len(summary["clouds"]) == 3
    assert [line.split(";")[0] for line in summary["warnings"]] == ["only 3 clouds"]
    inside = outside = 0.0
    for item, entry in zip(made.images, summary["images"], strict=True):
        mask = read_image(tmp_path / "out" / entry["mask"])[..., 0] > 0
        inside, outside = inside + mask[item.truth > 0].mean(), outside + mask[item.truth == 0].mean()
    assert inside > 1.5 * outside  # chance is 1; the sets are tiny
    for item, entry in zip(made.clouds, summary["clouds"], strict=True):
        assert np.load(tmp_path / "out" / entry["labels"]).shape == (len(item.cloud),)


def test_the_recipe_makes_bank_and_packs_again_with_the_same_bytes(fake, fake_backbone, folders, tmp_path, capsys, monkeypatch):
    small = recipe.Recipe(("stool",), 2, BackgroundConfig(4, 2, 2), (recipe.Rooms("depth", 7, 2, 3, 2), recipe.Rooms("lidar", 8, 1)))
    monkeypatch.setattr(recipe, "RECIPES", {"shipped": small})
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    made = []
    for name in ("a", "b"):
        code, out, err = run(capsys, "train", "--recipe", "shipped", "--images", folders / "images", "--out", tmp_path / name, "--json")
        assert code == 0, err
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        assert [str(p.relative_to(tmp_path / name)) for p in files] == list(json.loads(out)["files"])
        made.append([p.read_bytes() for p in files])
    assert made[0] == made[1]
    bank, pack = load_bank(files[0]), Pack.load(files[1])
    assert files[0].stem == fake_backbone.hash[:16] and "photographs: 3 from images" in bank.source
    training = pack.info["training"]
    assert (training["images"], training["clouds"], training["without_images"], training["without_clouds"]) == (3, 3, 2, 1)
    assert training["background"] == bank.source


@pytest.mark.parametrize(
    ("further", "line"),
    [
        (["--images", "x", "--name", "mug"], "--recipe: cannot be combined with --name"),
        ([], "--recipe: expected --images, photographs of anything"),
        (["--images", "absent"], "absent: no such folder"),
    ],
)
def test_recipes_refuse_what_cannot_go_with_them(fake, tmp_path, capsys, further, line):
    code, _, err = run(capsys, "train", "--recipe", "shipped", "--out", tmp_path / "x", *further)
    assert code == 2 and line in err and not (tmp_path / "x").exists()


def test_a_short_time_decodes_only_what_it_uses(fake, tmp_path, capsys, monkeypatch):
    from geoseg_ros.io import folders

    for k in range(60):
        write_image(tmp_path / "images" / f"{k:02d}.png", picture(k, ("red", "green"))[0])
    (tmp_path / "images" / "01.png").write_bytes(b"no image")
    read, decoded = folders.read_image, []
    monkeypatch.setattr(folders, "read_image", lambda path: decoded.append(path.name) or read(path))
    code, out, _ = run(
        capsys, "train", "--name", "a", "--images", tmp_path / "images", "--seconds", "0.001", "--out", tmp_path / "a.pack", "--json"
    )
    assert code == 0
    used = json.loads(out)["training"]["images"]
    assert used < 10 and len(decoded) <= used + CHECKED + 2
