"""``geoseg discover --names --teacher``: class k is line k, and bad input is one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from geoseg_ros.backbones import registry as backbones
from geoseg_ros.backbones import teachers
from geoseg_ros.cli.main import main
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.cloud_files import write_ply
from geoseg_ros.methods.hicl import method
from geoseg_ros.packs import place
from geoseg_ros.packs.pack import Pack
from geoseg_ros.runtime import pipeline
from support.fake_world import FakeBackbone
from support.hicl_worlds import ANCHORS, NAMES
from support.pointdc_worlds import COLOURS, Pointwise, room

pytestmark = pytest.mark.train
ORDER = (2, 0, 3, 1)  # of the names in the file
SETTINGS = ("batch=1", "least=0", "epochs=30", "attention.begin=5", "attention.feedback=10", "attention.points=64", "augment.crop=1500")


class ColourTeacher:
    """Says of every place which of the four colours is nearest."""

    name, dim, hash, supervision, licence, text, scale = "colours", 16, "c" * 64, "none", "none", True, 10.0

    def encode_image(self, image):
        cells = image[4::8, 4::8].astype(float)
        return torch.from_numpy(ANCHORS[np.square(cells[..., None, :] - COLOURS).sum(axis=-1).argmin(axis=-1)]).float()

    def encode_text(self, names):
        known = (*NAMES, "green box")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(f"teacher 'colours': does not know '{unknown[0]}'")
        anchors = np.vstack([ANCHORS, np.eye(1, 16) - np.eye(1, 16) @ ANCHORS.T @ ANCHORS])
        return torch.nn.functional.normalize(torch.from_numpy(anchors[[known.index(name) for name in names]]).float(), dim=1)


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    for module in (backbones, pipeline):
        monkeypatch.setattr(module, "open_backbone", lambda spec, device="cpu": FakeBackbone())
    real = teachers.open_teacher

    def opened(spec, *rest):
        teacher = ColourTeacher() if spec in ("colours", "other") else real(spec, *rest)
        if spec == "other":
            teacher.hash = "d" * 64
        return teacher

    monkeypatch.setattr(teachers, "open_teacher", opened)
    monkeypatch.setattr(method, "new_network", lambda config, dim: Pointwise(dim, config.voxel))
    monkeypatch.setitem(place.NETWORKS, "pointwise", Pointwise)


def write_room(path, seed):
    scene, label = room(seed)
    shift = np.array([[x, y, 0.0] for x in (0, 0.025) for y in (0, 0.025)], np.float32)
    write_ply(path, Cloud(np.concatenate([scene.xyz + step for step in shift]), np.tile(scene.rgb, (4, 1))))
    return np.tile(label, 4)


def test_class_k_is_line_k(tmp_path, capsys) -> None:
    write_room(tmp_path / "clouds" / "a.ply", 0)
    truth = write_room(tmp_path / "other" / "b.ply", 17)
    names = tmp_path / "names.txt"
    names.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([NAMES[k] for k in ORDER]).encode() + b"\r\n\n")
    pack = tmp_path / "home.pack"
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    arguments = ["discover", "--clouds", tmp_path / "clouds", "--names", names, "--teacher", "colours", "--out", pack, "--json", *settings]
    assert main([str(a) for a in arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in told["classes"]] == [NAMES[k] for k in ORDER] == list(Pack.load(pack).classes)
    assert main([str(a) for a in ("label", "--pack", pack, "--clouds", tmp_path / "other", "--out", tmp_path / "out", "--json")]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)["classes"]] == [NAMES[k] for k in ORDER]
    found = np.load(tmp_path / "out" / "b.npy").astype(int)
    line = np.array([ORDER.index(k) + 1 for k in range(4)])[truth]
    assert np.mean(found[found > 0] == line[found > 0]) > 0.9 and np.mean(found > 0) > 0.8
    _add_a_name(pack, tmp_path, capsys)


def _add_a_name(pack, tmp_path, capsys) -> None:
    """A name is added by text alone: an anchor that the network never learnt, so the other classes stay as they are."""
    more = tmp_path / "more.pack"
    assert main(["name", str(pack), "--add", "green box", "--teacher", "colours", "--out", str(more), "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)["classes"]][-1] == "green box"
    before, after = Pack.load(pack), Pack.load(more)
    assert after.classes == (*before.classes, "green box") and after.tensors["centroids"].shape == (5, 16)
    method.HICLMethod().check(after)
    for word, teacher, told in (
        ("floor", "colours", "is a class already"),
        ("dragon", "colours", "does not know 'dragon'"),
        ("stool", "lite", "expected one of lite2"),
        ("stool", "other", "is not the teacher of the pack"),
    ):
        assert main(["name", str(pack), "--add", word, "--teacher", teacher]) == 2
        err = capsys.readouterr().err
        assert told in err and err.strip().count("\n") == 0
    _add_a_name_by_photographs(pack, tmp_path, capsys)
    assert main(["name", str(pack), "--add", "stool"]) == 2 and "expected --teacher" in capsys.readouterr().err


def _add_a_name_by_photographs(pack, tmp_path, capsys) -> None:
    """Five photographs of a blue box before walls or on the floor: their anchor is that of what is not at their borders."""
    box = NAMES.index("blue box")
    (tmp_path / "photos").mkdir()
    for k, (y, x) in enumerate(((24, 24), (24, 152), (152, 24), (152, 152), (88, 88))):
        photo = np.tile(COLOURS[k % 2].astype(np.uint8), (240, 240, 1))
        photo[y : y + 64, x : x + 64] = COLOURS[box]
        Image.fromarray(photo).save(tmp_path / "photos" / f"{k}.png")
    more, arguments = tmp_path / "photos.pack", ["name", str(pack), "--teacher", "colours"]
    assert main([*arguments, "--add", "crate", "--images", str(tmp_path / "photos"), "--out", str(more), "--json"]) == 0
    capsys.readouterr()
    assert Pack.load(more).classes[-1] == "crate"
    assert Pack.load(more).tensors["centroids"][-1].numpy() @ ANCHORS[box] > 0.9
    for path in (tmp_path / "photos").glob("[1-4].png"):
        path.unlink()
    assert main([*arguments, "--add", "crate", "--images", str(tmp_path / "photos")]) == 2
    assert "expected 2 to 100 of what is named" in capsys.readouterr().err
    assert main(["name", str(pack), "--images", str(tmp_path / "photos")]) == 2 and "expected --add" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "teacher", "told"),
    [
        (b"", "colours", "expected 2 to 254 names, one a line, got 0"),
        (b"floor\nwall\nFloor\n", "colours", "line 3: the name 'Floor' is that of line 1"),
        (b"floor\n\nwall\n", "colours", "line 2: expected a name"),
        ("\n".join(f"object {k}" for k in range(2000)).encode(), "colours", "got 2000"),
        ("floor\nwall\n".encode("utf-16"), "colours", "expected a text file in UTF-8"),
        ("Stuhl\nTür\n".encode("latin-1"), "colours", "expected a text file in UTF-8"),
        (b"floor\ndragon\n", "colours", "does not know 'dragon'"),
        (b"floor\nwall\n", "nobody", "teacher 'nobody': expected one of lite2"),
        (b"floor\nwall\n", "prototypes", "knows no words"),
        (b"floor\nwall\n", None, "--names: expected --teacher"),
        (None, "colours", "got 0"),
    ],
)
def test_bad_names_and_teachers_are_one_line(tmp_path, capsys, text, teacher, told) -> None:
    write_room(tmp_path / "clouds" / "a.ply", 0)
    arguments = ["discover", "--clouds", str(tmp_path / "clouds"), "--out", str(tmp_path / "x.pack")]
    if text is not None:
        (tmp_path / "names.txt").write_bytes(text)
        arguments += ["--names", str(tmp_path / "names.txt")]
    code = main([*arguments, *(["--teacher", teacher] if teacher else [])])
    err = capsys.readouterr().err
    assert code == 2 and told in err and err.strip().count("\n") == 0 and not (tmp_path / "x.pack").exists()
