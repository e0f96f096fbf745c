"""``geoseg coseg``, end to end on small folders."""

import errno
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from geoseg_ros.cli.outputs import result_names
from geoseg_ros.files import atomic_path
from geoseg_ros.io.cloud_files import read_cloud, write_ply
from geoseg_ros.io.folders import read_image, write_image
from geoseg_ros.methods.contrast import observations as observe
from geoseg_ros.packs.pack import Pack
from geoseg_ros.projection import token_cache
from geoseg_ros.runtime.pipeline import Pipeline
from support.fake_world import picture, table
from support.learning_cases import CLOUD_THINGS, run


def test_coseg_writes_what_it_promises(fake, folders, tmp_path, capsys):
    given = ["--clouds", folders / "clouds", "--images", folders / "images", "--without", folders / "without"]
    code, out, err = run(capsys, "coseg", *given, "--out", tmp_path / "a", "--save-pack", tmp_path / "red.pack", "--name", "red")
    assert code == 0, err
    result = tmp_path / "a"
    expected = {"summary.json", ".geoseg"}  # the mark of a folder of results
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

    pack = Pack.load(tmp_path / "red.pack")
    assert (pack.name, pack.version) == ("red", summary["pack"]["version"])
    assert pack.info["training"]["without_images"] == 3 and pack.info["training"]["without_clouds"] == 1

    code, out, err = run(capsys, "coseg", *given, "--out", tmp_path / "b", "--json")
    assert code == 0 and err == ""
    told = json.loads(out)
    assert told["out"] == str(tmp_path / "b") and len(told["images"]) == 6
    for name in expected - {"summary.json"}:
        assert (tmp_path / "b" / name).read_bytes() == (result / name).read_bytes()


def test_items_without_the_object_are_judged_by_the_others_and_say_so(fake, tmp_path, capsys):
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
    objects = [(), ("green",), ("yellow",), ("cyan",)]
    for k in range(10):
        write_image(tmp_path / "images" / f"{k}.png", picture(k, objects[k % 4])[0])
    for k in range(4):
        write_ply(tmp_path / "clouds" / f"{k}.ply", table(k, (*objects[k], "green"))[0])
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
    process, calls = Pipeline.process_cloud, []

    def interrupted(self, cloud, shown):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return process(self, cloud, shown)

    monkeypatch.setattr(Pipeline, "process_cloud", interrupted)
    assert run(capsys, *given, "--out", tmp_path / "again")[0] == 130
    assert run(capsys, *given, "--out", tmp_path / "again", "--json")[0] == 0 and len(calls) == 5
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {p.name for p in (tmp_path / "again").iterdir()} == names
    for name in names - {"summary.json"}:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    again = json.loads((tmp_path / "again" / "summary.json").read_text())
    assert (again["common"], again["common_p_value"]) == (False, summary["common_p_value"])

    # told that every item shows the object, it marks something, and says what it thinks of that
    code, out, err = run(capsys, *given, "--no-outliers", "--out", tmp_path / "told")
    assert code == 0 and "nothing in common" not in out
    assert sum("the items do not look related" in line for line in err.splitlines()) == 1
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
    objects = tmp_path / "clouds"
    sizes = {}
    for k, name in enumerate(("a.ply", "a.npy", "b.ply")):
        cloud = table(k, ("red", "green", "cyan")[: 2 + k % 2])[0]
        sizes[name] = len(cloud)
        if name.endswith(".ply"):
            write_ply(objects / name, cloud)
        else:
            with atomic_path(objects / name) as temporary:
                np.save(temporary, np.concatenate([cloud.xyz, cloud.rgb], axis=1))
    code, _, err = run(capsys, "coseg", "--clouds", objects, "--out", tmp_path / "out")
    assert code == 0, err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {entry["file"]: entry["labels"] for entry in summary["clouds"]} == {
        "a.ply": "a.ply.npy", "a.npy": "a.npy.npy", "b.ply": "b.npy",
    }  # fmt: skip
    for entry in summary["clouds"]:
        assert len(np.load(tmp_path / "out" / entry["labels"])) == sizes[entry["file"]]
    assert len(list((tmp_path / "out").iterdir())) == 8


def test_names_of_results_never_clash():
    paths = [Path(name) for name in ("a.pcd", "a.ply", "a.pcd.npy", "A.bin", "b.npy", "c.d.pcd")]
    names = result_names(paths)
    assert len({name.casefold() for name in names.values()}) == len(paths)
    assert names[Path("b.npy")] == "b" and names[Path("c.d.pcd")] == "c.d"
    assert names[Path("a.ply")] == "a.ply"


@pytest.mark.parametrize("when", ["between items", "while writing"])
def test_ctrl_c_leaves_no_half_written_file(fake, folders, tmp_path, capsys, monkeypatch, when):
    process, write, calls = Pipeline.process_image, Path.write_bytes, []

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
        monkeypatch.setattr(Pipeline, "process_image", interrupted_process)
    else:
        monkeypatch.setattr(Path, "write_bytes", interrupted_write)
    code, out, err = run(capsys, "coseg", "--images", folders / "images", "--out", tmp_path / "out")
    assert code == 130 and err.strip().endswith("interrupted") and "Traceback" not in err
    assert "the same command resumes from there" in err
    left = sorted(p.name for p in (tmp_path / "out").glob("[!.]*"))
    # nothing is written before all items of a kind are judged, because each counts for the others
    assert left == ([] if when == "between items" else ["photo0.png", "photo0_overlay.jpg", "photo1.png", "photo1_overlay.jpg"])
    for name in left:
        read_image(tmp_path / "out" / name)

    # the same command goes on: nothing that was seen or judged is seen or judged again, and the result is as if it had not been interrupted
    monkeypatch.setattr(Path, "write_bytes", write)
    judged, seen = [], []
    monkeypatch.setattr(Pipeline, "process_image", lambda self, *given: judged.append(1) or process(self, *given))
    tokens = observe.photo_tokens
    monkeypatch.setattr(observe, "photo_tokens", lambda *given: seen.append(1) or tokens(*given))
    code, out, err = run(capsys, "coseg", "--images", folders / "images", "--out", tmp_path / "out")
    assert code == 0 and not seen and len(judged) == (4 if when == "between items" else 0)
    assert run(capsys, "coseg", "--images", folders / "images", "--out", tmp_path / "whole")[0] == 0
    names = {p.name for p in (tmp_path / "whole").iterdir()}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names and "photo3.png" in names and ".unfinished" not in names
    for name in names - {"summary.json"}:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_coseg_of_a_single_picture_says_that_nothing_can_recur(fake, tmp_path, capsys):
    write_image(tmp_path / "images" / "0.png", picture(0, ("red", "green"))[0])
    code, _, err = run(capsys, "coseg", "--images", tmp_path / "images", "--out", tmp_path / "out")
    assert code == 0 and "warning: only 1 images" in err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["common"] is True and summary["common_p_value"] is None  # one item does not tell


def test_a_place_that_is_full_stops_the_keeping_not_the_work(fake, folders, tmp_path, capsys, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(token_cache, "write_bytes", full)
    code, out, err = run(capsys, "coseg", "--images", folders / "images", "--out", tmp_path / "out")
    assert code == 0 and err.count("warning: ") == 1 and "cannot keep intermediate results: No space left on device" in err
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
