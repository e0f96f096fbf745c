"""ScanNet, nuScenes and SemanticKITTI in their formats on disk, from tiny fakes."""

import json

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.datasets import nuscenes, scannet, semantickitti
from geoseg_ros.evaluate.semantics.sources import DATA, semantic_rooms
from support.frame_worlds import walk, write_scannet


def write_ply(path, xyz, extra):
    names = {"u1": "uchar", "<u2": "ushort", "<f4": "float"}
    columns = {**dict(zip("xyz", xyz.T.astype("<f4"), strict=True)), **extra}
    packed = np.empty(len(xyz), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        packed[name] = values
    lines = [f"property {names[values.dtype.str.lstrip('|')]} {name}" for name, values in columns.items()]
    head = "\n".join(["ply", "format binary_little_endian 1.0", f"element vertex {len(xyz)}", *lines, "end_header"]) + "\n"
    path.write_bytes(head.encode() + packed.tobytes())


@pytest.fixture
def scannet_root(tmp_path):
    xyz = np.random.default_rng(0).uniform(0, 2, (40, 3)).astype(np.float32)
    grey = np.full(40, 90, np.uint8)
    for name in ("scene0000_00", "scene0001_00"):
        folder = tmp_path / "scans" / name
        folder.mkdir(parents=True)
        write_ply(folder / f"{name}_vh_clean_2.ply", xyz, dict.fromkeys(("red", "green", "blue", "alpha"), grey))
        write_ply(folder / f"{name}_vh_clean_2.labels.ply", xyz, {"label": np.resize([0, 1, 2, 13, 39, 40, 14, 16], 40).astype("<u2")})
    (tmp_path / "scannetv2_train.txt").write_text("scene0000_00\nscene0009_00\n")
    (tmp_path / "scannetv2_val.txt").write_text("scene0001_00\n")
    return tmp_path


def test_scannet(scannet_root):
    assert len(scannet.CLASSES) == len(scannet.NYU40) == 20
    assert scannet.list_scenes(scannet_root, "train") == ["scene0000_00"]
    room = scannet.read_scene(scannet_root, "scene0001_00")
    assert room.label[:8].tolist() == [-1, 0, 1, -1, 19, -1, 12, 13]  # 14 is a desk, 16 a curtain
    assert room.cloud.rgb is not None and scannet.open_frames(scannet_root, "scene0001_00") is None
    write_scannet(scannet_root / "scans" / "scene0001_00", walk(3))
    rooms = semantic_rooms("scannet", "measure", scannet_root)
    (read,) = rooms
    assert read.frames is not None and len(read.frames) == 3 and rooms.classes == scannet.CLASSES


def test_scannet_25k_frames(scannet_root):
    folder = scannet_root / "scannet_frames_25k" / "scene0001_00"
    write_scannet(folder, walk(2))
    for name in ("depth", "color"):
        (folder / "intrinsic" / f"intrinsic_{name}.txt").rename(folder / f"intrinsics_{name}.txt")
    frames = scannet.open_frames(scannet_root, "scene0001_00")
    assert frames is not None and len(list(frames)) == 2


def test_damaged_scannet_is_one_line(scannet_root):
    labels = scannet_root / "scans/scene0001_00/scene0001_00_vh_clean_2.labels.ply"
    write_ply(labels, np.zeros((3, 3), np.float32), {"label": np.zeros(3, "<u2")})
    with pytest.raises(InputError, match="3 vertices, expected the 40"):
        scannet.read_scene(scannet_root, "scene0001_00")
    write_ply(labels, np.zeros((40, 3), np.float32), {"other": np.zeros(40, "<u2")})
    with pytest.raises(InputError, match="no property label"):
        scannet.read_scene(scannet_root, "scene0001_00")
    (scannet_root / "scannetv2_val.txt").unlink()
    with pytest.raises(InputError, match=r"scannetv2_val.txt: no such file"):
        scannet.list_scenes(scannet_root, "val")


def write_kitti(root, sequence, points, labels):
    folder = root / "sequences" / sequence
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    points.astype("<f4").tofile(folder / "velodyne" / "000000.bin")
    labels.astype("<u4").tofile(folder / "labels" / "000000.label")


def test_semantickitti(tmp_path):
    points = np.random.default_rng(1).uniform(-5, 5, (6, 4)).astype(np.float32)
    labels = np.array([10, 252, 40 | 7 << 16, 0, 81, 99])  # the upper bits are the instance
    write_kitti(tmp_path, "08", points, labels)
    (scan,) = semantickitti.list_scans(tmp_path, "val")
    read = semantickitti.read_scan(scan)
    assert read.name == "08/000000" and (read.cloud.xyz == points[:, :3]).all()
    assert [semantickitti.CLASSES[k] if k >= 0 else None for k in read.label] == ["car", "car", "road", None, "traffic-sign", None]
    with pytest.raises(InputError, match="no labelled scan of train"):
        semantickitti.list_scans(tmp_path, "train")
    write_kitti(tmp_path, "08", points, labels[:3])
    with pytest.raises(InputError, match="3 labels, expected the 6"):
        semantickitti.read_scan(scan)
    scan.points.write_bytes(scan.points.read_bytes()[:-4])
    with pytest.raises(InputError, match="92 bytes, expected points of 16"):
        semantickitti.read_scan(scan)


@pytest.fixture
def nuscenes_root(tmp_path):
    tables = tmp_path / "v1.0-mini"
    tables.mkdir()
    (tmp_path / "samples/LIDAR_TOP").mkdir(parents=True)
    (tmp_path / "lidarseg/v1.0-mini").mkdir(parents=True)
    rows = {"scene": [], "sample": [], "sample_data": [], "lidarseg": []}
    for k, scene in enumerate(("scene-0061", "scene-0103")):
        cloud, label = f"samples/LIDAR_TOP/{k}.pcd.bin", f"lidarseg/v1.0-mini/{k}_lidarseg.bin"
        np.arange(20, dtype="<f4").tofile(tmp_path / cloud)
        np.array([17, 24, 0, 5], np.uint8).tofile(tmp_path / label)
        rows["scene"].append({"token": f"c{k}", "name": scene})
        rows["sample"].append({"token": f"s{k}", "scene_token": f"c{k}"})
        rows["sample_data"].append({"token": f"d{k}", "sample_token": f"s{k}", "filename": cloud})
        rows["lidarseg"].append({"token": f"l{k}", "sample_data_token": f"d{k}", "filename": label})
    rows["category"] = [
        {"name": "vehicle.car", "index": 17},
        {"name": "flat.driveable_surface", "index": 24},
        {"name": "noise", "index": 0},
    ]
    for name, table in rows.items():
        (tables / f"{name}.json").write_text(json.dumps(table))
    return tmp_path


def test_nuscenes(nuscenes_root):
    assert len(nuscenes.CLASSES) == 16
    (scan,) = nuscenes.list_scans(nuscenes_root, "val")
    read = nuscenes.read_scan(scan)
    assert [nuscenes.CLASSES[k] if k >= 0 else None for k in read.label] == ["car", "driveable_surface", None, None]
    assert read.cloud.xyz.tolist() == [[0, 1, 2], [5, 6, 7], [10, 11, 12], [15, 16, 17]]
    assert [s.name for s in nuscenes.list_scans(nuscenes_root, "train")] == ["0.pcd.bin"]


def test_damaged_nuscenes_is_one_line(nuscenes_root):
    tables = nuscenes_root / "v1.0-mini"
    (tables / "lidarseg.json").write_text(json.dumps([{"sample_data_token": "d0", "filename": "../../secret"}]))
    with pytest.raises(InputError, match="lies outside"):
        nuscenes.list_scans(nuscenes_root, "train")
    (tables / "lidarseg.json").write_text("[{}]")
    with pytest.raises(InputError, match="a table lacks 'sample_data_token'"):
        nuscenes.list_scans(nuscenes_root, "train")
    (tables / "scene.json").write_text("[")
    with pytest.raises(InputError, match="not a JSON table"):
        nuscenes.list_scans(nuscenes_root, "train")
    tables.rename(nuscenes_root / "v1.0-trainval")
    with pytest.raises(InputError, match=r"val_scenes.txt: no such file"):
        nuscenes.list_scans(nuscenes_root, "val")


def test_unknown_data_and_absent_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected one of rooms"):
        semantic_rooms("other", "learn")
    for data in DATA[1:]:
        with pytest.raises(InputError):
            semantic_rooms(data, "measure", tmp_path)
        with pytest.raises(InputError, match="--root"):
            semantic_rooms(data, "measure")
