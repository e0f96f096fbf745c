"""``geoseg train``, ``geoseg coseg`` and ``geoseg bank``, end to end on small folders."""

import errno
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_world import CONFIG, picture, table

from geoseg_ros.cli import main
from geoseg_ros.commands import recipe
from geoseg_ros.commands.coseg import result_names
from geoseg_ros.concepts import background, build, observe, unfinished
from geoseg_ros.concepts.bank import find_bank, load_bank
from geoseg_ros.concepts.pack import load_pack
from geoseg_ros.data.folders import read_image, write_image
from geoseg_ros.data.frames import pack_frames
from geoseg_ros.data.world.background import BackgroundConfig
from geoseg_ros.features import backbone as backbones
from geoseg_ros.files import atomic_path
from geoseg_ros.geometry.io import read_cloud, write_ply
from geoseg_ros.runtime import pipeline
from geoseg_ros.runtime.pipeline import CosegPipeline, PipelineConfig

CLOUD_THINGS = (("red", "green", "cyan"), ("red", "yellow"), ("red", "cyan", "yellow"))


@pytest.fixture
def fake(monkeypatch, fake_backbone, fake_bank):
    """Commands open the backbone that sees colours only, and its bank, and look at small pictures."""
    monkeypatch.setattr(backbones, "open_backbone", lambda spec, device="cpu": fake_backbone)
    monkeypatch.setattr(background, "find_bank", lambda backbone: fake_bank)
    for module in (build, observe):
        monkeypatch.setattr(module, "BuildConfig", lambda: CONFIG)
    monkeypatch.setattr(pipeline, "PipelineConfig", lambda *given: PipelineConfig(*given or (CONFIG.coseg,)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders ``images``, ``clouds``, ``without`` (both kinds): red things; image 5 does not show it."""
    root = tmp_path_factory.mktemp("sets")
    for k in range(6):
        things = ("green", "yellow") if k == 5 else ("red", "green", "yellow")[: 1 + k % 3]
        write_image(root / "images" / f"photo{k}.png", picture(k, things, (90 + k, 120))[0])
    for k in range(3):
        write_ply(root / "clouds" / f"scan{k}.ply", table(k, CLOUD_THINGS[k])[0])
        write_image(root / "without" / f"{k}.png", picture(50 + k, ("green",))[0])
    write_ply(root / "without" / "empty.ply", table(50, ("green", "cyan"))[0])
    return root


def run(capsys, *arguments):
    """Exit code, standard output, standard error."""
    code = main([str(a) for a in arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_coseg_writes_what_it_promises(fake, folders, tmp_path, capsys):
    given = ["--clouds", folders / "clouds", "--images", folders / "images", "--without", folders / "without"]
    code, out, err = run(capsys, "coseg", *given, "--out", tmp_path / "a", "--save-pack", tmp_path / "red.pack", "--name", "red")
    assert code == 0, err
    result = tmp_path / "a"
    expected = {"summary.json"}
    expected |= {f"photo{k}{end}" for k in range(6) for end in (".png", "_overlay.jpg")}
    expected |= {f"scan{k}{end}" for k in range(3) for end in (".npy", ".ply")}
    assert {p.name for p in result.iterdir()} == expected
    summary = json.loads((result / "summary.json").read_text())

    for k, entry in enumerate(summary["images"]):
        mask = cv2.imread(str(result / f"photo{k}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.dtype == np.uint8 and mask.shape == (90 + k, 120) and set(np.unique(mask)) <= {0, 255}
        assert read_image(result / f"photo{k}_overlay.jpg").shape == (90 + k, 120, 3)
        assert (entry["file"], entry["mask"]) == (f"photo{k}.png", f"photo{k}.png")
        assert entry["present"] == bool(mask.any()) == (k != 5)
        assert entry["share"] == pytest.approx((mask > 0).mean())
        assert 0 < entry["p_value"] <= 1 and entry["seconds"] > 0
    assert "not in photo5.png" in out

    for k, entry in enumerate(summary["clouds"]):
        cloud, truth = table(k, CLOUD_THINGS[k])
        labels = np.load(result / f"scan{k}.npy")
        assert labels.dtype == np.uint32 and labels.shape == (len(cloud),)
        assert (labels == 1)[truth == 1].mean() > 0.8 and (labels == 1)[truth != 1].mean() < 0.05
        coloured = read_cloud(result / f"scan{k}.ply")
        assert np.array_equal(coloured.xyz, cloud.xyz)
        assert np.array_equal(coloured.rgb[labels == 0], cloud.rgb[labels == 0])
        assert len(np.unique(coloured.rgb[labels == 1], axis=0)) == 1
        assert entry["present"] and entry["objects"] == 1

    pack = load_pack(tmp_path / "red.pack")
    assert (pack.name, pack.version) == ("red", summary["pack"]["version"])
    assert pack.info["training"]["without_images"] == 3 and pack.info["training"]["without_clouds"] == 1

    code, out, err = run(capsys, "coseg", *given, "--out", tmp_path / "b", "--json")
    assert code == 0 and err == ""
    told = json.loads(out)
    assert told["out"] == str(tmp_path / "b") and len(told["images"]) == 6
    for name in expected - {"summary.json"}:
        assert (tmp_path / "b" / name).read_bytes() == (result / name).read_bytes()


def test_items_without_the_thing_are_judged_by_the_others_and_say_so(fake, tmp_path, capsys):
    for k in range(8):
        write_image(tmp_path / "images" / f"{k}.png", picture(k, ("green", "yellow") if k in (2, 5) else ("red", "green"))[0])
    for k in range(7):
        write_ply(tmp_path / "clouds" / f"{k}.ply", table(k, ("cyan", "green", "yellow") if k in (3, 4) else ("red", "cyan"))[0])
    given = ["--clouds", tmp_path / "clouds", "--images", tmp_path / "images"]
    code, out, err = run(capsys, "coseg", *given, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert summary["folds"] == {"images": 5, "clouds": 5}
    assert summary["common"] is True and summary["common_p_value"] < 0.01
    assert [entry["present"] for entry in summary["images"]] == [k not in (2, 5) for k in range(8)]
    assert [entry["present"] for entry in summary["clouds"]] == [k not in (3, 4) for k in range(7)]

    # --no-outliers changes nothing for the items that are found anyway
    code, _, err = run(capsys, "coseg", *given, "--no-outliers", "--out", tmp_path / "told")
    assert code == 0 and "--no-outliers" not in err
    for entry in summary["images"] + summary["clouds"]:
        same = [(tmp_path / folder / entry.get("mask", entry.get("labels"))).read_bytes() for folder in ("out", "told")]
        assert (same[0] == same[1]) or not entry["present"]


def test_coseg_says_that_nothing_is_common(fake, tmp_path, capsys, monkeypatch):
    things = [(), ("green",), ("yellow",), ("cyan",)]
    for k in range(10):
        write_image(tmp_path / "images" / f"{k}.png", picture(k, things[k % 4])[0])
    for k in range(4):
        write_ply(tmp_path / "clouds" / f"{k}.ply", table(k, (*things[k], "green"))[0])
    given = ["coseg", "--images", tmp_path / "images", "--clouds", tmp_path / "clouds"]
    code, out, err = run(capsys, *given, "--out", tmp_path / "out")
    assert code == 0, err
    assert sum(line.startswith("nothing in common: ") for line in out.splitlines()) == 1 and "found in" not in out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["common"] is False and summary["common_p_value"] > 0.01
    assert len(summary["images"]) == 10 and len(summary["clouds"]) == 4
    for entry in [*summary["images"], *summary["clouds"]]:
        assert not entry["present"] and entry["share"] == 0.0 and 0 < entry["p_value"] <= 1
    assert not any(read_image(tmp_path / "out" / entry["mask"]).any() for entry in summary["images"])
    assert not any(np.load(tmp_path / "out" / entry["labels"]).any() for entry in summary["clouds"])

    # interrupted in between, it comes to the same
    process, calls = CosegPipeline.process_cloud, []

    def interrupted(self, cloud, shown):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return process(self, cloud, shown)

    monkeypatch.setattr(CosegPipeline, "process_cloud", interrupted)
    assert run(capsys, *given, "--out", tmp_path / "again")[0] == 130
    assert run(capsys, *given, "--out", tmp_path / "again", "--json")[0] == 0 and len(calls) == 5
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {p.name for p in (tmp_path / "again").iterdir()} == names
    for name in names - {"summary.json"}:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    again = json.loads((tmp_path / "again" / "summary.json").read_text())
    assert (again["common"], again["common_p_value"]) == (False, summary["common_p_value"])

    # told that every item shows the thing, it marks something, and says what it thinks of that
    code, out, err = run(capsys, *given, "--no-outliers", "--out", tmp_path / "told")
    assert code == 0 and "nothing in common" not in out
    assert sum("nothing but --no-outliers says" in line for line in err.splitlines()) == 1
    told = json.loads((tmp_path / "told" / "summary.json").read_text())
    assert (told["common"], told["common_p_value"]) == (True, summary["common_p_value"])
    assert all(entry["present"] for entry in told["clouds"]) and any(entry["present"] for entry in told["images"])


def test_coseg_with_one_modality_and_unreadable_files(fake, folders, tmp_path, capsys):
    mixed = tmp_path / "mixed"
    for k in range(4):
        write_image(mixed / f"{k}.png", picture(k, ("red", "green"))[0])
    (mixed / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (mixed / "notes.txt").write_text("not an image")
    code, out, err = run(capsys, "coseg", "--images", mixed, "--out", tmp_path / "out")
    assert code == 0
    assert f"skipped {mixed / 'cut.jpg'}: " in err and err.count("cut.jpg") == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["clouds"] == [] and [line.split(";")[0] for line in summary["warnings"][1:]] == ["only 4 images"]
    (failed,) = [item for item in summary["images"] if "error" in item]
    assert failed["file"] == "cut.jpg" and not (tmp_path / "out" / "cut.png").exists()

    for name in ("a", "b"):
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / f"{name}.png").write_bytes(b"no picture")
    code, out, err = run(capsys, "coseg", "--images", tmp_path / "bad", "--clouds", folders / "clouds", "--out", tmp_path / "none")
    assert code == 2 and err.count("\n") == 1 and "none of its 2 files can be read" in err
    assert not (tmp_path / "none").exists()


def test_coseg_keeps_files_of_one_stem_apart(fake, tmp_path, capsys):
    things = tmp_path / "clouds"
    sizes = {}
    for k, name in enumerate(("a.ply", "a.npy", "b.ply")):
        cloud = table(k, ("red", "green", "cyan")[: 2 + k % 2])[0]
        sizes[name] = len(cloud)
        if name.endswith(".ply"):
            write_ply(things / name, cloud)
        else:
            with atomic_path(things / name) as temporary:
                np.save(temporary, np.concatenate([cloud.xyz, cloud.rgb], axis=1))
    code, _, err = run(capsys, "coseg", "--clouds", things, "--out", tmp_path / "out")
    assert code == 0, err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {entry["file"]: entry["labels"] for entry in summary["clouds"]} == {
        "a.ply": "a.ply.npy", "a.npy": "a.npy.npy", "b.ply": "b.npy",
    }  # fmt: skip
    for entry in summary["clouds"]:
        assert len(np.load(tmp_path / "out" / entry["labels"])) == sizes[entry["file"]]
    assert len(list((tmp_path / "out").iterdir())) == 7


def test_names_of_results_never_clash():
    paths = [Path(name) for name in ("a.pcd", "a.ply", "a.pcd.npy", "A.bin", "b.npy", "c.d.pcd")]
    names = result_names(paths)
    assert len({name.casefold() for name in names.values()}) == len(paths)
    assert names[Path("b.npy")] == "b" and names[Path("c.d.pcd")] == "c.d"
    assert names[Path("a.ply")] == "a.ply"


@pytest.mark.parametrize("when", ["between items", "while writing"])
def test_ctrl_c_leaves_no_half_written_file(fake, folders, tmp_path, capsys, monkeypatch, when):
    process, write, calls = CosegPipeline.process_image, Path.write_bytes, []

    def interrupted_process(self, *given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return process(self, *given)

    def interrupted_write(path, data):
        calls.append(path.suffix in (".png", ".jpg"))
        if sum(calls) == 5:
            write(path, b"half")
            raise KeyboardInterrupt
        return write(path, data)

    if when == "between items":
        monkeypatch.setattr(CosegPipeline, "process_image", interrupted_process)
    else:
        monkeypatch.setattr(Path, "write_bytes", interrupted_write)
    code, out, err = run(capsys, "coseg", "--images", folders / "images", "--out", tmp_path / "out")
    assert code == 130 and err.strip().endswith("interrupted") and "Traceback" not in err
    assert "the same command goes on from there" in err
    left = sorted(p.name for p in (tmp_path / "out").glob("[!.]*"))
    # nothing is written before all items of a kind are judged, because each counts for the others
    assert left == ([] if when == "between items" else ["photo0.png", "photo0_overlay.jpg", "photo1.png", "photo1_overlay.jpg"])
    for name in left:
        read_image(tmp_path / "out" / name)

    # the same command goes on: nothing that was seen or judged is seen or judged again, and the result is as if it had not been interrupted
    monkeypatch.setattr(Path, "write_bytes", write)
    judged, seen = [], []
    monkeypatch.setattr(CosegPipeline, "process_image", lambda self, *given: judged.append(1) or process(self, *given))
    tokens = observe.photo_tokens
    monkeypatch.setattr(observe, "photo_tokens", lambda *given: seen.append(1) or tokens(*given))
    code, out, err = run(capsys, "coseg", "--images", folders / "images", "--out", tmp_path / "out")
    assert code == 0 and not seen and len(judged) == (4 if when == "between items" else 0)
    assert run(capsys, "coseg", "--images", folders / "images", "--out", tmp_path / "whole")[0] == 0
    names = {p.name for p in (tmp_path / "whole").iterdir()}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names and "photo3.png" in names and ".unfinished" not in names
    for name in names - {"summary.json"}:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_training_goes_on_after_ctrl_c_and_sees_what_has_changed(fake, folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    images = tmp_path / "images"
    for k in range(5):
        write_image(images / f"{k}.png", picture(k, ("red", "green"))[0])
    given = ["train", "--name", "red", "--images", images, "--clouds", folders / "clouds"]
    tokens, analyse, seen = observe.photo_tokens, observe.analyse_cloud, []

    def interrupted(cloud, config):
        raise KeyboardInterrupt

    monkeypatch.setattr(observe, "photo_tokens", lambda *arguments: seen.append(1) or tokens(*arguments))
    monkeypatch.setattr(observe, "analyse_cloud", interrupted)
    assert run(capsys, *given, "--out", tmp_path / "a.pack")[0] == 130
    assert not (tmp_path / "a.pack").exists() and (tmp_path / ".a.pack.unfinished").is_dir()
    scales = len(CONFIG.train.scales)
    assert len(seen) == 5 * scales

    monkeypatch.setattr(observe, "analyse_cloud", analyse)
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


def test_coseg_of_a_single_picture_says_that_nothing_can_recur(fake, tmp_path, capsys):
    write_image(tmp_path / "images" / "0.png", picture(0, ("red", "green"))[0])
    code, _, err = run(capsys, "coseg", "--images", tmp_path / "images", "--out", tmp_path / "out")
    assert code == 0 and "warning: only 1 images" in err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["common"] is True and summary["common_p_value"] is None  # one item does not tell


def test_a_place_that_is_full_stops_the_keeping_not_the_work(fake, folders, tmp_path, capsys, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(unfinished, "write_bytes", full)
    code, out, err = run(capsys, "coseg", "--images", folders / "images", "--out", tmp_path / "out")
    assert code == 0 and err.count("warning: ") == 1 and "cannot keep what was worked out so far: No space left on device" in err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(summary["images"]) == 6 and len(summary["warnings"]) == 1


def test_a_short_time_learns_from_fewer_items_and_still_judges_all(fake, tmp_path, capsys):
    for k in range(12):
        write_image(tmp_path / "images" / f"{k}.png", picture(k, ("red", "green"))[0])
    given = ["coseg", "--images", tmp_path / "images", "--json"]
    for seconds, learnt in (("0.0001", 5), ("1000", 12)):
        code, out, err = run(capsys, *given, "--out", tmp_path / seconds, "--seconds", seconds)
        assert code == 0, err
        summary = json.loads(out)
        assert summary["learnt_from"] == {"images": learnt, "clouds": 0} and len(summary["images"]) == 12
        assert all(entry["present"] for entry in summary["images"])
    code, _, err = run(capsys, *given, "--out", tmp_path / "x", "--seconds", "0")
    assert code == 2 and "--seconds: expected more than 0" in err


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
    assert told["version"] == load_pack(tmp_path / "b.pack").version
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
    from geoseg_ros.data.world.sets import concept_set

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
    bank, pack = load_bank(files[0]), load_pack(files[1])
    assert files[0].stem == fake_backbone.hash[:16] and "photographs: 3 from images" in bank.source
    training = pack.info["training"]
    assert (training["images"], training["clouds"], training["without_images"], training["without_clouds"]) == (3, 3, 2, 1)
    assert training["background"] == bank.source


@pytest.mark.parametrize(
    ("further", "line"),
    [
        (["--images", "x", "--name", "mug"], "--recipe: says itself what is learnt; --name cannot go with it"),
        ([], "--recipe: expected --images, photographs of anything"),
        (["--images", "absent"], "absent: no such folder"),
    ],
)
def test_recipes_refuse_what_cannot_go_with_them(fake, tmp_path, capsys, further, line):
    code, _, err = run(capsys, "train", "--recipe", "shipped", "--out", tmp_path / "x", *further)
    assert code == 2 and line in err and not (tmp_path / "x").exists()
