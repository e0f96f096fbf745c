"""``geoseg parts`` and ``geoseg where``: mugs in files, their parts, and bad input in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.cloud_files import write_ply
from geoseg_ros.io.folders import write_image
from support.learning_cases import run
from support.part_worlds import mug, table_with_mug

MARKS = ("--mark", "handle=0.15,0,0.1@{ref}", "--mark", "bottom=0,0,0@{ref}")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """One marked mug, two others as clouds (and one file that is none), one as a mesh, and a photograph."""
    root = tmp_path_factory.mktemp("mugs")
    write_ply(root / "ref.ply", Cloud(mug()[0]))
    for k in range(2):
        write_ply(root / "clouds" / f"mug{k}.ply", Cloud(mug(k + 1, 0.8 + 0.4 * k, 1.0 + k)[0]))
    (root / "clouds" / "broken.ply").write_bytes(b"ply\nno")
    (root / "meshes").mkdir()
    trimesh.creation.cylinder(0.08, 0.2).export(root / "meshes" / "can.obj")
    image = np.full((224, 224, 3), 128, np.uint8)
    image[96:112, 96:112], image[96:112, 112:128] = (220, 30, 30), (30, 40, 220)
    write_image(root / "photo.png", image)
    write_image(root / "images" / "a.png", image)
    return root


@pytest.fixture
def made(fake, places, tmp_path, capsys):
    """A part pack of whole mugs, and what the command said."""
    marks = [text.format(ref=places / "ref.ply") for text in MARKS]
    code, told, err = run(
        capsys,
        "parts",
        "--whole",
        *marks,
        "--clouds",
        places / "clouds",
        "--meshes",
        places / "meshes",
        "--out",
        tmp_path / "mug.pack",
        "--json",
    )
    assert code == 0, err
    return tmp_path / "mug.pack", told


def test_parts_of_whole_clouds(made, places, tmp_path, capsys) -> None:
    pack, told = made
    summary = json.loads(told)
    assert summary["parts"] == ["handle", "bottom"] and summary["target"] is None
    assert summary["tried"]["objects"] == 3 and summary["tried"]["given"]["handle"] == 2, "a can has no handle"
    assert len(summary["skipped"]) == 1 and "broken.ply" in summary["skipped"][0]
    assert (tmp_path / "mug.png").is_file()
    out = tmp_path / "out"
    code, told, err = run(capsys, "where", "--parts", pack, "--clouds", places / "clouds", "--out", out)
    assert code == 0 and "handle 2 of 2" in told and "broken.ply" in err
    for k in range(2):
        truth = mug(k + 1, 0.8 + 0.4 * k, 1.0 + k)[1]
        (obj,) = json.loads((out / f"mug{k}.json").read_text())
        handle, bottom = obj
        assert handle["name"] == "handle" and handle["seen"] and np.linalg.norm(handle["point"] - truth["handle"]) < 0.04
        assert len(bottom["normal"]) == 3 and (out / f"mug{k}.png").is_file()
    assert json.loads((out / "summary.json").read_text())["parts"]["handle"] == {"asked": 2, "given": 2, "seen": 2}
    assert run(capsys, "where", "--parts", pack, "--clouds", places / "clouds", "--out", out)[0] == 0, "its own results may be replaced"


def test_parts_of_photographs(fake, places, tmp_path, capsys, monkeypatch, fake_backbone) -> None:
    marks = ["--mark", f"left=104,104@{places / 'photo.png'}", "--mark", f"right=120,104@{places / 'photo.png'}"]
    assert run(capsys, "parts", "--whole", *marks, "--out", tmp_path / "x.pack")[0] == 0
    code, told, _ = run(capsys, "where", "--parts", tmp_path / "x.pack", "--images", places / "images", "--out", tmp_path / "out", "--json")
    assert code == 0 and json.loads(told)["parts"]["left"] == {"asked": 1, "given": 1, "seen": 1}
    (obj,) = json.loads((tmp_path / "out" / "a.json").read_text())
    assert 96 <= obj[0]["pixel"][0] < 112 <= obj[1]["pixel"][0] < 128


def test_parts_of_a_concept(fake, fake_packs, fake_backbone, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("geoseg_ros.runtime.pipeline.open_backbone", lambda spec, device="cpu": fake_backbone)
    fake_packs["red"].save(tmp_path / "red.pack")
    cloud, marks = table_with_mug(0, 0.3)
    write_ply(tmp_path / "ref.ply", cloud)
    other, truth = table_with_mug(5, 2.0, ("green", "yellow"), 1.2)
    write_ply(tmp_path / "clouds" / "other.ply", other)
    place = ",".join(f"{v:.4f}" for v in marks["handle"])
    pack = tmp_path / "parts.pack"
    assert run(capsys, "parts", "--pack", tmp_path / "red.pack", "--mark", f"handle={place}@{tmp_path / 'ref.ply'}", "--out", pack)[0] == 0
    where = ("where", "--parts", pack, "--clouds", tmp_path / "clouds", "--out", tmp_path / "out")
    assert run(capsys, *where)[0] == 0  # red.pack lies beside it
    first = (tmp_path / "out" / "other.json").read_text()
    (tmp_path / "red.pack").rename(tmp_path / "other.pack")
    code, _, err = run(capsys, *where)
    assert code == 2 and "finds parts of 'red', name the concept pack (red.pack); or --whole" in err
    assert run(capsys, *where, "--pack", tmp_path / "other.pack")[0] == 0
    assert (tmp_path / "out" / "other.json").read_text() == first
    assert run(capsys, *where, "--whole")[0] == 0
    assert len(json.loads((tmp_path / "out" / "other.json").read_text())) == 1
    assert run(capsys, *where, "--pack", tmp_path / "other.pack")[0] == 0
    (obj,) = json.loads((tmp_path / "out" / "other.json").read_text())
    assert obj[0]["object"] == "red" and np.linalg.norm(obj[0]["point"] - truth["handle"]) < 0.05


def test_bad_input_is_one_line(fake, made, places, fake_packs, tmp_path, capsys) -> None:
    pack, ref, out = made[0], places / "ref.ply", tmp_path / "y.pack"
    fake_packs["red"].save(tmp_path / "red.pack")
    (tmp_path / "y.png").write_bytes(b"a picture of the user")
    good = f"handle=0.15,0,0.1@{ref}"
    parts = ("parts", "--whole", "--out", tmp_path / "z.pack", "--mark")
    where = ("where", "--out", tmp_path / "w", "--clouds", places / "clouds", "--parts")
    cases = [
        ((*parts, f"handle=3,3,3@{ref}"), "mark handle: outside the object in"),
        ((*parts, f"handle=1@{ref}"), "expected NAME=x,y@photo.jpg or NAME=x,y,z@cloud.ply"),
        ((*parts, f"handle=0,zero,0@{ref}"), "expected NAME=x,y@photo.jpg or NAME=x,y,z@cloud.ply"),
        ((*parts, f"handle=nan,0,0@{ref}"), "expected NAME=x,y@photo.jpg or NAME=x,y,z@cloud.ply"),
        ((*parts, good, "--mark", good), "the part handle is named twice"),
        ((*parts, f"handle=0,0,0@{tmp_path / 'no.ply'}"), "no such file"),
        ((*parts, f"handle=0,0,0@{places / 'clouds' / 'broken.ply'}"), "broken.ply"),
        ((*parts, f"handle=400,64@{places / 'photo.png'}"), "pixel 400,64 is outside"),
        ((*parts, f"handle=4,6@{ref}"), "expected x,y,z of a cloud"),
        ((*parts, good, "--up", "0,0,0"), "--up: expected three numbers, not all zero"),
        ((*parts, good, "--up", "z"), "--up: expected X,Y,Z"),
        ((*parts, good, "--meshes", places / "images"), "no mesh found"),
        (("parts", "--whole", "--out", ref, "--mark", good), "is also an input"),
        (("parts", "--whole", "--out", out, "--mark", good), "y.png exists and is not a picture of a pack"),
        (("parts", "--whole", "--out", tmp_path / "pack.png", "--mark", good), "is the name of the picture beside the pack"),
        ((*where, tmp_path / "red.pack"), "is no part pack"),
        ((*where, pack, "--pack", tmp_path / "red.pack"), "leave --pack out"),
        ((*where, tmp_path / "no.pack"), "no such file"),
        (("where", "--parts", pack, "--out", tmp_path / "w"), "expected --clouds, --images, or both"),
        (("where", "--parts", pack, "--clouds", places / "clouds", "--out", places / "clouds"), "is also an input"),
    ]
    for arguments, line in cases:
        code, _, err = run(capsys, *arguments)
        assert code == 2 and line in err and len(err.strip().splitlines()) == 1, (arguments, err)
    assert not (tmp_path / "z.pack").exists() and not (tmp_path / "w").exists()
