"""The sets of co-segmentation papers and their tables, on tiny fakes in the real formats."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from benchmarks.evaluate import main as benchmark
from geoseg_ros.cli.main import main
from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.coseg_sets import CATEGORIES, LEAST, POINTS, category_crops, gives_pictures, s3dis_sets, scanobjectnn_sets
from geoseg_ros.evaluate.datasets.s3dis import CLASSES, Room
from geoseg_ros.geometry.cloud import Cloud
from support.fake_datasets import write_blocks, write_labels, write_objects, write_picture, write_text

pytest.importorskip("h5py")

NAMES = [f"office_{k}" for k in range(1, 30)]
PICTURED = [name for name in NAMES if gives_pictures(f"Area_1/{name}")]
SCANNED = [name for name in NAMES if not gives_pictures(f"Area_1/{name}")]


def a_room(around: int = 20_000) -> Room:
    """A wall of ``around`` points in the plane y = 0, a chair of 400 points before it, another chair behind, a board far away."""
    rng = np.random.default_rng(0)
    wall = rng.uniform((-1, 0, 0), (1, 0, 1), (around, 3))
    chair, behind, far = (rng.uniform(0, 0.5, (400, 3)) + at for at in ((0, 0.1, 0), (0, -0.6, 0), (20, 0, 0)))
    kinds = ["wall"] * around + ["chair"] * 800 + ["board"] * 400
    instance = np.repeat([0, 1, 2, 3], [around, 400, 400, 400])
    cloud = Cloud(np.concatenate([wall, chair, behind, far]).astype(np.float32))
    return Room("Area_1/office_1", cloud, np.array([CLASSES.index(kind) for kind in kinds]), instance)


def test_a_crop_per_object() -> None:
    room = a_room()
    first, second = category_crops(room, "chair")
    assert (first.name, second.name) == ("Area_1/office_1#2", "Area_1/office_1#3")
    assert len(first.data) == POINTS and first.data.rgb is None and first.data.xyz.min() == 0
    shift = room.cloud.xyz[room.instance == 1].min(axis=0) - first.data.xyz[first.truth].min(axis=0)
    whole = first.data.xyz + shift
    box = room.cloud.xyz[room.instance == 1]
    middle, longest = (box.min(axis=0) + box.max(axis=0)) / 2, (box.max(axis=0) - box.min(axis=0)).max()
    assert np.linalg.norm(whole[~first.truth] - middle, axis=1).max() <= longest + 1e-4
    assert whole[~first.truth, 1].min() > -0.01  # the wall is there, the other chair is not
    assert not category_crops(room, "sofa")


def test_a_crop_needs_something_around_it() -> None:
    assert LEAST == 512 and not category_crops(a_room(around=600), "chair")


@pytest.fixture(scope="module")
def s3dis_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("s3dis")
    for k, name in enumerate([*SCANNED[:2], PICTURED[0]]):
        write_blocks(root, f"Area_1/{name}", seed=k)
    return root


@pytest.fixture(scope="module")
def pictures_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("2d3ds")
    write_labels(root)
    for k in range(12):
        write_picture(root, "area_1", PICTURED[k % 2], k, "chair")
    write_picture(root, "area_1", SCANNED[0], 0, "chair")
    for frame, share in ((20, 0.01), (21, 0.9)):  # too little and too much of it
        write_picture(root, "area_1", PICTURED[0], frame, "chair", share)
    room = next(name for name in NAMES if gives_pictures(f"Area_5/{name}"))
    write_picture(root, "area_5b", room, 0, "sofa", side=1080)
    return root


def test_s3dis_sets_of_clouds(s3dis_root) -> None:
    chair, sofa = s3dis_sets(s3dis_root)
    assert [chair.name, sofa.name] == ["chair", "sofa"] and set(CATEGORIES) > {"chair", "sofa"}
    assert len(chair.clouds) == 6 and len(sofa.clouds) == 3 and not chair.images
    assert chair.protocol == "paper" and chair.given == "itself: crops" and not chair.rivals
    assert [id(c) for c in chair.own.clouds] == [id(c.data) for c in chair.clouds]
    few = s3dis_sets(s3dis_root, items=2)[0]
    assert [c.name for c in few.clouds] == [chair.clouds[0].name, chair.clouds[-1].name]


def test_pictures_are_of_other_rooms_than_clouds(s3dis_root, pictures_root) -> None:
    chair, sofa = s3dis_sets(s3dis_root, pictures_root)
    scanned = {c.name.partition("#")[0] for s in (chair, sofa) for c in s.clouds}
    pictured = {i.name.partition(" ")[0] for s in (chair, sofa) for i in s.images}
    assert scanned == {f"Area_1/{name}" for name in SCANNED[:2]} and scanned.isdisjoint(pictured)
    assert len(chair.clouds) == 4 and len(chair.images) == 10  # at most 10 of an object and area
    assert all(abs(i.truth.mean() - 0.25) < 0.01 and i.counted is not None and not i.counted[-1].any() for i in chair.images)
    (large,) = sofa.images
    assert large.data.shape == (512, 512, 3) and large.truth.shape == (512, 512)
    assert (large.data[:-1][large.truth[:-1]][:, 0] > 90).all()  # red in the picture where the truth is
    assert chair.given == sofa.given == "itself: crops and pictures of other rooms"
    assert [id(x) for x in chair.own.images] == [id(i.data) for i in chair.images]


def test_rooms_are_shared_out_by_name_alone() -> None:
    assert [gives_pictures(f"area_1/{n.upper()}") for n in NAMES] == [gives_pictures(f"Area_1/{n}") for n in NAMES]
    rooms = [f"Area_{a}/{kind}_{n}" for a in range(1, 7) for kind in ("office", "hallway", "lounge") for n in range(1, 31)]
    assert 0.25 < np.mean([gives_pictures(room) for room in rooms]) < 0.42


def test_text_gives_the_same_sets(tmp_path) -> None:
    write_text(tmp_path, "Area_1/office_1")
    assert [(s.name, len(s.clouds)) for s in s3dis_sets(tmp_path)] == [("chair", 2), ("sofa", 1)]


def write_masked(root, category: str, count: int = 3) -> None:
    for folder in ("images", "masks"):
        (root / category / folder).mkdir(parents=True)
    for k in range(count):
        mask = np.zeros((40, 60), np.uint8)
        mask[10:30, 20:40] = 255
        cv2.imwrite(str(root / category / "images" / f"{k}.jpg"), np.full((40, 60, 3), 80, np.uint8))
        cv2.imwrite(str(root / category / "masks" / f"{k}.png"), mask)


def test_scanobjectnn_sets(tmp_path) -> None:
    write_objects(tmp_path, "training", ["chair", "bag", "chair"])
    write_objects(tmp_path, "test", ["chair"], seed=1)
    bag, chair = scanobjectnn_sets(tmp_path)
    assert (bag.name, len(bag.clouds)) == ("bag", 1) and [c.name for c in chair.clouds] == ["training0", "training2", "test0"]
    assert all(len(c.data) == 256 and c.truth.mean() == 0.75 for c in chair.clouds) and chair.protocol == "paper"
    write_masked(tmp_path / "photos", "chair")
    bag, chair = scanobjectnn_sets(tmp_path, tmp_path / "photos")
    assert not bag.images and [i.name for i in chair.images] == ["0", "1", "2"] and bag.given == chair.given
    assert all(i.truth.sum() == 400 for i in chair.images)


def test_bad_pictures_are_named(tmp_path) -> None:
    write_objects(tmp_path, "full", ["chair"])
    photos = tmp_path / "photos"
    photos.mkdir()
    with pytest.raises(InputError, match="expected folders chair/images"):
        scanobjectnn_sets(tmp_path, photos)
    write_masked(photos, "chair")
    cv2.imwrite(str(photos / "chair" / "masks" / "1.png"), np.zeros((5, 5), np.uint8))
    with pytest.raises(InputError, match="1.png: expected 60 x 40"):
        scanobjectnn_sets(tmp_path, photos)
    (photos / "chair" / "masks" / "1.png").unlink()
    with pytest.raises(InputError, match="expected the mask of 1.jpg"):
        scanobjectnn_sets(tmp_path, photos)


def test_nothing_of_the_categories(tmp_path) -> None:
    folder = tmp_path / "Area_1" / "office_1" / "Annotations"
    folder.mkdir(parents=True)
    (folder / "wall_1.txt").write_text("1 2 3 4 5 6\n")
    with pytest.raises(InputError, match="S3DIS: no object of door, table, chair, sofa, bookcase"):
        s3dis_sets(tmp_path)


@pytest.fixture
def quick(monkeypatch, fake_backbone, fake_bank):
    """The command with a backbone that sees colours only."""
    monkeypatch.setattr("geoseg_ros.backbones.registry.open_backbone", lambda spec, device="cpu": fake_backbone)
    monkeypatch.setattr("geoseg_ros.simulation.bank.open_bank", lambda backbone, progress=None: fake_bank)


def test_s3dis_command(quick, s3dis_root, pictures_root, tmp_path, capsys) -> None:
    out = tmp_path / "s3dis.md"
    paths = ["--root", str(s3dis_root), "--images", str(pictures_root), "--out", str(out)]
    assert main(["evaluate", "--table", "s3dis-coseg", *paths, "--methods", "all foreground"]) == 0
    text = capsys.readouterr().out.strip()
    assert text == out.read_text().strip() and text.startswith("# Evaluation: s3dis-coseg\n")
    assert "--table s3dis-coseg --root DIR --images DIR --protocol paper" in text and str(s3dis_root) not in text
    result = json.loads(out.with_suffix(".json").read_text())
    assert {(r["protocol"], r["group"]) for r in result["rows"]} == {("paper", "S3DIS")} and "published" not in result
    sets = s3dis_sets(s3dis_root, pictures_root)
    micro = np.mean([np.concatenate([c.truth for c in s.clouds]).mean() for s in sets])  # of all points of a category, then the mean
    jaccard = np.mean([np.mean([i.truth[i.counted].mean() for i in s.images]) for s in sets])
    by_modality = {row["modality"]: row for row in result["summary"]}
    assert by_modality["clouds"]["micro_iou"] == pytest.approx(micro) and by_modality["images"]["iou"] == pytest.approx(jaccard)
    assert benchmark(["--table", "s3dis-coseg", *paths, "--methods", "all foreground"]) == 0
    text, result = capsys.readouterr().out.strip(), json.loads(out.with_suffix(".json").read_text())
    assert f"| all foreground | {micro:.3f} | {jaccard:.3f} | {jaccard:.3f} | this run, no backbone |" in text
    assert "| GeoFree-CoSeg | 0.54 | 0.83 | 0.59 | GeoFree-CoSeg (CVPR 2026), from a summary of the paper |" in text
    assert len(result["published"]) == 9 and all(f"* {line}" in text for line in result["differences"])


def test_scanobjectnn_command_with_the_own_method(quick, tmp_path, capsys) -> None:
    write_objects(tmp_path, "training", ["chair", "chair", "chair"])
    write_objects(tmp_path, "test", ["bag", "bag"])
    arguments = ["--methods", "contrast", "all foreground", "--items", "2", "--json"]
    assert benchmark(["--table", "scanobjectnn-coseg", "--root", str(tmp_path), *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    rows = {(r["method"], r["set"]): r for r in result["rows"]}
    assert rows["all foreground", "chair"]["micro_iou"] == 0.75 and rows["all foreground", "chair"]["items"] == 2
    assert {method for method, _ in rows} == {"contrast", "all foreground"} and not any("error" in r for r in rows.values())
    assert result["published"][0]["iou"] == 0.63 and "At most 2" in result["differences"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "s3dis-coseg"], "--root"),
        (["--table", "s3dis-coseg", "--root", ".", "--images", "/nowhere"], "--images /nowhere: no such folder"),
        (["--table", "s3dis-coseg", "--root", ".", "--protocol", "robot"], "has paper alone"),
        (["--table", "scanobjectnn-coseg", "--root", ".", "--split", "development"], "has report alone"),
        (["--table", "s3dis-coseg", "--root", "."], "no room of S3DIS"),
        (["--table", "scanobjectnn-coseg", "--root", "."], "training_objectdataset.h5"),
        (["--table", "msrc", "--root", ".", "--images", "."], "--images: not used by --table msrc"),
    ],
)
def test_bad_input_is_one_line(quick, tmp_path, monkeypatch, arguments, message, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and message in error[0]


def test_too_few_items(s3dis_root) -> None:
    with pytest.raises(InputError, match="at least 2, got 1"):
        s3dis_sets(s3dis_root, items=1)
