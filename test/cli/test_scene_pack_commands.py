"""``geoseg discover``, ``name`` and ``label``, end to end on small rooms."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from geoseg_ros.backbones import registry as backbones
from geoseg_ros.cli.main import main
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.cloud_files import read_cloud, write_ply
from geoseg_ros.methods.pointdc import method
from geoseg_ros.packs import place
from geoseg_ros.packs.pack import Pack
from geoseg_ros.projection.virtual_frames import VirtualConfig, virtual_frames
from geoseg_ros.runtime import pipeline
from support.fake_world import FakeBackbone
from support.learning_cases import run
from support.pointdc_worlds import Pointwise, purity, room
from support.recorded_camera import record_frames

pytestmark = pytest.mark.train
SETTINGS = (
    "dim=16",
    "distill.rate=0.01",
    "distill.epochs=10",
    "cluster.warm_up=1",
    "cluster.epochs=2",
    "cluster.every=1",
    "augment.crop=1500",
    "least=0",
)


@pytest.fixture(autouse=True, scope="module")
def fakes():
    with pytest.MonkeyPatch.context() as patch:
        for module in (backbones, pipeline):
            patch.setattr(module, "open_backbone", lambda spec, device="cpu": FakeBackbone())
        patch.setattr(method, "new_network", lambda config: Pointwise(config.dim, config.voxel))
        patch.setitem(place.NETWORKS, "pointwise", Pointwise)
        patch.setenv("SOURCE_DATE_EPOCH", "0")
        yield


def dense_room(seed):
    scene, label = room(seed)
    shift = np.array([[x, y, 0.0] for x in (0, 0.025) for y in (0, 0.025)], np.float32)
    return Cloud(np.concatenate([scene.xyz + step for step in shift]), np.tile(scene.rgb, (4, 1))), np.tile(label, 4)


def inside(cloud):
    """Posed frames drawn from inside a cloud."""
    return list(virtual_frames(cloud, VirtualConfig(places=3, turns=4, width=160, height=128, heights=(1.2,))))


def write_frames(folder, cloud, count=None):
    """Posed frames in the layout of 7-Scenes."""
    folder.mkdir(parents=True)
    frames = inside(cloud)[:count]
    np.savetxt(folder / "camera-intrinsics.txt", frames[0].intrinsics)
    for k, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"frame-{k:06}.color.png"), frame.rgb[..., ::-1])
        cv2.imwrite(str(folder / f"frame-{k:06}.depth.png"), np.nan_to_num(1000 * frame.depth).round().astype(np.uint16))
        np.savetxt(folder / f"frame-{k:06}.pose.txt", frame.pose)
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders ``frames`` of one room, and ``clouds`` of two others."""
    root = tmp_path_factory.mktemp("places")
    write_frames(root / "frames", dense_room(0)[0])
    for seed in (1, 2):
        write_ply(root / "clouds" / f"room{seed}.ply", dense_room(seed)[0])
    return root


def discover(out, *more, settings=SETTINGS):
    return ["discover", "--classes", "4", *(part for text in settings for part in ("--set", text)), "--out", out, *more]


@pytest.fixture(scope="module")
def home(places, tmp_path_factory):
    out = tmp_path_factory.mktemp("home") / "home.pack"
    arguments = discover(out, "--frames", places / "frames", "--clouds", places / "clouds")
    assert main([str(a) for a in arguments]) == 0
    return out


def test_discover_writes_a_pack_and_a_sheet(home, places, tmp_path, capsys) -> None:
    found = Pack.load(home)
    assert found.name == "home" and len(found.classes) == 4 and found.info["training"]["scenes"] == 3
    assert found.info["training"]["images"] > 0
    sheet = cv2.imread(str(home.with_name("home.classes.png")))
    assert sheet.shape[0] == 4 * 160 and sheet.std() > 20
    assert sorted(p.name for p in home.parent.iterdir()) == ["home.classes.png", "home.pack"]
    out = tmp_path / "home.pack"
    code, told, err = run(capsys, *discover(out, "--frames", places / "frames", "--clouds", places / "clouds", "--json"))
    assert (code, err) == (0, "")
    summary = json.loads(told)
    assert summary["version"] == found.version and out.read_bytes() == home.read_bytes()
    assert sum(entry["share"] for entry in summary["classes"]) == pytest.approx(1, abs=1e-3)


def test_discover_from_a_recording(tmp_path, capsys) -> None:
    frames = inside(dense_room(0)[0])
    bag, lost = record_frames(tmp_path / "a.mcap", frames), record_frames(tmp_path / "b.mcap", frames, tf=False)
    code, told, err = run(capsys, *discover(tmp_path / "x.pack", "--recording", bag, "--limit", "3", "--json"))
    assert (code, err) == (0, "")
    training = json.loads(told)["training"]
    assert training["scenes"] == 1 and training["images"] == 3 < len(frames)
    code, _, err = run(capsys, *discover(tmp_path / "y.pack", "--recording", lost))
    assert code == 2 and err.count("\n") == 1 and "no depth image of /camera/depth/image has a pose" in err


def test_discover_goes_on_after_ctrl_c(home, places, tmp_path, capsys, monkeypatch) -> None:
    from geoseg_ros.learning import checkpoint

    calls = []
    write = checkpoint.Checkpoint.write

    def interrupted(self, state):
        write(self, state)
        calls.append(state.step)
        if len(calls) == 4:
            raise KeyboardInterrupt

    out, arguments = tmp_path / "home.pack", ("--frames", places / "frames", "--clouds", places / "clouds")
    monkeypatch.setattr(checkpoint.Checkpoint, "due", True)
    monkeypatch.setattr(checkpoint.Checkpoint, "write", interrupted)
    code, _, err = run(capsys, *discover(out, *arguments))
    assert code == 130 and "the same command resumes" in err and not out.exists()
    assert run(capsys, *discover(out, *arguments))[0] == 0
    assert calls[4] == calls[3] + 1
    assert out.read_bytes() == home.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home.classes.png", "home.pack"]


def test_label_writes_a_class_for_every_point(home, places, tmp_path, capsys) -> None:
    cloud, truth = dense_room(7)
    bad = cloud.xyz.copy()
    bad[5] = np.nan
    write_ply(tmp_path / "scans" / "a.ply", Cloud(bad, cloud.rgb))
    (tmp_path / "scans" / "broken.ply").write_bytes(b"ply")
    np.save(tmp_path / "scans" / "wide.npy", np.linspace(0, 1e6, 1500).reshape(-1, 3))
    code, told, err = run(capsys, "label", "--pack", home, "--clouds", tmp_path / "scans", "--out", tmp_path / "out", "--json")
    assert code == 0
    label = np.load(tmp_path / "out" / "a.npy")
    assert label.dtype == np.uint32 and label.shape == (len(cloud),) and label[5] == 0 and label.max() <= 4
    assert np.mean(label > 0) > 0.9 and purity(label.astype(int), truth) > 0.85
    drawn = read_cloud(tmp_path / "out" / "a.ply")
    assert len(np.unique(drawn.rgb, axis=0)) == len(np.unique(label))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {**summary, "out": str(tmp_path / "out")} == json.loads(told)
    assert [entry["file"] for entry in summary["clouds"]] == ["a.ply", "wide.npy", "broken.ply"]
    assert all("error" in entry for entry in summary["clouds"][1:]) and not (tmp_path / "out" / "wide.npy").exists()
    assert sum(entry["share"] for entry in summary["classes"]) + summary["unlike_anything_seen"] == pytest.approx(1, abs=1e-4)
    assert run(capsys, "label", "--pack", home, "--clouds", tmp_path / "scans", "--out", tmp_path / "out")[0] == 0  # its own results


def test_name_lists_names_and_merges(home, tmp_path, capsys) -> None:
    out = tmp_path / "named.pack"
    before = home.read_bytes()
    code, told, _ = run(capsys, "name", home)
    assert code == 0 and told.count("\n") == 4 and "home class 3" in told
    code, told, _ = run(capsys, "name", home, "3=big chair", "1=big chair", "--out", out, "--json")
    assert code == 0 and home.read_bytes() == before
    assert [entry["name"] for entry in json.loads(told)["classes"]] == ["big chair", "home class 2", "home class 4"]
    assert run(capsys, "name", out, "2=floor")[0] == 0
    assert Pack.load(out).classes == ("big chair", "floor", "home class 4") and out.with_name("named.classes.png").is_file()


def test_bad_input_gives_one_line(home, places, tmp_path, capsys) -> None:
    empty = tmp_path / "none"
    empty.mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x.classes.png").write_bytes(b"a picture of somebody")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "room1.npy").write_bytes(b"data of somebody")
    for folder, points in (("nothing", np.full((50, 3), np.nan)), ("wide", np.linspace(0, 1e6, 1500).reshape(-1, 3)), ("own", np.eye(3))):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "mine.npy", points)
    frames, clouds = places / "frames", places / "clouds"
    few = write_frames(tmp_path / "few", dense_room(3)[0], 3)
    cases = [
        (discover(tmp_path / "x.pack"), "expected --recording, --frames or --clouds"),
        (discover(tmp_path / "x.pack", "--frames", empty), "no posed frames"),
        (discover(tmp_path / "x.pack", "--frames", frames, "--classes", 1), "classes: expected at least 2"),
        (discover(tmp_path / "x.pack", "--frames", frames, "--classes", 1000), "classes: expected 0 .. 254"),
        (discover(tmp_path / "x.pack", "--frames", few, "--classes", 250), "classes: expected 1 to"),
        (discover(tmp_path / "x.pack", "--frames", frames, "--preset", "big"), "expected one of small, paper"),
        (discover(tmp_path / "x.pack", "--frames", frames, "--minutes", 0), "--minutes: expected more than 0"),
        (discover(tmp_path / "x.pack", "--frames", frames, "--set", "speed=1"), "speed: unknown"),
        (discover(tmp_path / "taken" / "x.pack", "--frames", frames), "x.classes.png exists and is not a picture"),
        (discover(frames / "x.pack", "--frames", frames), "lies in the input"),
        (["name", home, "9=chair"], "9: no such class, expected 1 to 4"),
        (["name", home, "chair"], "expected NUMBER=NAME"),
        (["name", home, 5000 * "9" + "=chair"], "expected NUMBER=NAME"),
        (["name", home, "1=chair", "01=table"], "named twice, 'chair' and 'table'"),
        (["name", home, "--out", tmp_path / "y.pack"], "nothing is named"),
        (discover(tmp_path / "x.pack", "--frames", frames, "--set", f"seed={10**20}"), "seed: expected"),
        (discover(tmp_path / "x.pack", "--clouds", tmp_path / "nothing"), "none of 1 clouds can be used; first"),
        (["label", "--pack", home, "--clouds", tmp_path / "wide", "--out", tmp_path / "y"], "no file can be used; first"),
        (["label", "--pack", home, "--clouds", clouds, "--out", tmp_path / "own"], "will not replace it"),
        (["name", "stool", "1=a"], "expected a scene pack"),
        (["label", "--pack", "stool", "--clouds", clouds, "--out", tmp_path / "y"], "expected a scene pack"),
        (["label", "--pack", home, "--clouds", empty, "--out", tmp_path / "y"], "no cloud found"),
        (["label", "--pack", home, "--clouds", clouds, "--out", clouds], "is also an input"),
        (["label", "--pack", home, "--clouds", clouds, "--out", tmp_path / "other"], "is no result of an earlier run"),
    ]
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for arguments, said in cases:
        code, _, err = run(capsys, *arguments)
        assert code == 2 and err.count("\n") == 1 and said in err, (arguments, err)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_scene_pack_that_does_not_fit_together_gives_one_line(home, tmp_path, capsys) -> None:
    good = Pack.load(home)
    parts = [
        {"info": {**good.info, "shares": "abc"}},
        {"info": {**good.info, "shares": [1.0]}},
        {"info": {**good.info, "geometry": "fine"}},
        *(
            {"tensors": {**good.tensors, "class_of": torch.tensor(c)}}
            for c in ([0, 1, 2, 300], [0, 1, 2, -1], [[0, 1], [2, 3]], [0.0, 1, 2, 3])
        ),
        *(
            {"tensors": {**good.tensors, "picture.0": torch.ones(n, dtype=kind)}}
            for n, kind in ((50, torch.uint8), (0, torch.uint8), (9, torch.half))
        ),
        {"tensors": {name: tensor for name, tensor in good.tensors.items() if name != "picture.1"}},
    ]
    for k, part in enumerate(parts):
        bad = tmp_path / f"{k}.pack"
        replace(good, **part).save(bad)
        before = bad.read_bytes()
        for arguments in (["name", bad], ["name", bad, "1=chair"], ["label", "--pack", bad, "--clouds", tmp_path, "--out", tmp_path / "y"]):
            code, _, err = run(capsys, *arguments)
            assert code == 2 and err.count("\n") == 1 and "damaged scene pack" in err, (part.keys(), arguments, err)
        assert bad.read_bytes() == before and not list(tmp_path.glob("*.classes.png"))
