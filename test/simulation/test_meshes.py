"""Meshes of the user in the rooms: colours, axes, units, exact truth, and files that cannot be used."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import trimesh
from PIL import Image

from geoseg_ros.cli.main import main
from geoseg_ros.errors import InputError
from geoseg_ros.simulation.families import FURNITURE, Catalogue, mesh_family
from geoseg_ros.simulation.meshes import TexturedMesh, read_mesh, read_mesh_of_size, read_meshes
from geoseg_ros.simulation.raycast import RayCaster
from geoseg_ros.simulation.rooms import STAND, SeedSource, make_scene
from geoseg_ros.simulation.sensors import DepthCamera, optical_pose
from geoseg_ros.simulation.sets import concept_set, make_set_config
from geoseg_ros.simulation.trajectory import WalkConfig, walk_scene

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quad(visual=None) -> trimesh.Trimesh:
    """A square of 1 m in the plane x = 0, seen from +x: y to the right, z up."""
    vertices = [(0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1)]
    return trimesh.Trimesh(vertices, [(0, 1, 2), (0, 2, 3)], visual=visual, process=False)


def textured_quad() -> trimesh.Trimesh:
    image = Image.fromarray(np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8))  # red is at the upper left
    uv = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)
    material = trimesh.visual.material.SimpleMaterial(image=image, diffuse=(255, 255, 255, 255))
    return quad(trimesh.visual.TextureVisuals(uv, material=material))


def box(*lengths: float, colour=(200, 40, 40, 255)) -> trimesh.Trimesh:
    mesh = trimesh.creation.box(lengths)
    mesh.visual.face_colors = colour
    return mesh


def caster_of(mesh: TexturedMesh) -> RayCaster:
    """The mesh alone, on the floor of its own frame."""
    catalogue = FURNITURE.with_meshes({"mesh": mesh})
    return RayCaster(catalogue.solids("mesh", 0), catalogue.materials("mesh", 0))


def colours_from_front(mesh: TexturedMesh, places) -> np.ndarray:
    """Display colours of what rays along -x hit at (y, z) in the frame of the bounding box."""
    caster, found = caster_of(mesh), []
    for y, z in places:
        hits = caster.cast((5.0, y, z + mesh.half()[2]), np.array([[-1, 0, 0]], np.float32))
        assert hits.solid[0] == 0
        found.append(mesh.albedo(hits.triangle, hits.weights)[0] ** (1 / 2.2) * 255)
    return np.array(found)


@pytest.mark.parametrize("suffix", ["obj", "glb", "ply"])
def test_colours_land_where_the_file_has_them(suffix, tmp_path):
    """UV textures of OBJ and GLB, corner colours of PLY."""
    corners = [(-0.4, -0.4), (0.4, -0.4), (0.4, 0.4), (-0.4, 0.4)]
    path = tmp_path / f"sign.{suffix}"
    if suffix == "ply":
        mesh = quad()
        mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=np.array([BLUE, WHITE, GREEN, RED], np.uint8))
    else:
        mesh = textured_quad()
        turn = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)  # z up, x front -> y up, z front
        mesh.apply_transform(turn)
    mesh.export(path)
    colours = colours_from_front(read_mesh(path), corners)
    assert np.argmax(colours[3]) == 0 and np.argmax(colours[2]) == 1 and np.argmax(colours[0]) == 2 and colours[1].min() > 150
    if suffix != "ply":
        np.testing.assert_allclose(colours, [BLUE, WHITE, GREEN, RED], atol=1)


def test_face_colours_and_several_parts(tmp_path):
    scene = trimesh.Scene()
    scene.add_geometry(box(0.2, 0.2, 0.2, colour=(*RED, 255)), transform=trimesh.transformations.translation_matrix((0, 0.2, 0)))
    scene.add_geometry(box(0.2, 0.2, 0.2, colour=(*BLUE, 255)), transform=trimesh.transformations.translation_matrix((0, -0.2, 0)))
    scene.export(tmp_path / "pair.glb")
    mesh = read_mesh(tmp_path / "pair.glb")
    assert len(mesh.corners) == 24
    np.testing.assert_allclose(mesh.half(), (0.1, 0.1, 0.3), atol=1e-6)  # y of the file points up
    np.testing.assert_allclose(colours_from_front(mesh, [(0, 0.2), (0, -0.2)]), [RED, BLUE], atol=1)


def test_texture_repeats_and_meets_corner_colours():
    image = np.array([[RED, GREEN]], np.uint8)
    uv = np.array([[[0.25, 0.5], [1.25, 0.5], [-0.25, 0.5]]], np.float32)
    mesh = TexturedMesh(np.zeros((1, 3, 3), np.float32), np.full((1, 3, 3), 0.5, np.float32), uv, np.zeros(1, np.int32), (image,))
    found = mesh.albedo(np.zeros(3, np.int32), np.eye(3, dtype=np.float32))
    np.testing.assert_allclose(found, [(0.5, 0, 0), (0.5, 0, 0), (0, 0.5, 0)])


@pytest.mark.parametrize(
    ("suffix", "arguments", "half"),
    [
        ("ply", {"unit": "mm"}, (0.1, 0.2, 0.3)),
        ("ply", {"unit": "cm", "up": "z"}, (1, 2, 3)),
        ("ply", {"unit": "mm", "up": "y"}, (0.3, 0.1, 0.2)),
        ("obj", {"unit": "mm"}, (0.3, 0.1, 0.2)),
        ("obj", {"unit": "mm", "up": "z"}, (0.1, 0.2, 0.3)),
    ],
)
def test_units_and_axes(suffix, arguments, half, tmp_path):
    path = tmp_path / f"block.{suffix}"
    box(200, 400, 600).apply_translation((5000, 0, 0)).export(path)
    if max(half) > 1.25:
        with pytest.raises(InputError, match="longest side 6 m .unit cm.*--mesh-unit"):
            read_mesh(path, **arguments)
    else:
        mesh = read_mesh(path, **arguments)
        np.testing.assert_allclose(mesh.half(), half, rtol=1e-4)
        np.testing.assert_allclose(mesh.corners.min(axis=(0, 1)), -mesh.half(), rtol=1e-4)


def test_size_known_from_elsewhere_replaces_the_unit(tmp_path):
    path = tmp_path / "object.obj"
    box(30, 80, 50).export(path)  # x, y up, z to the front
    assert read_mesh_of_size(path, (0.6, 0.4, 1.8)).half() == pytest.approx([0.3, 0.2, 0.9], abs=1e-6)
    for size in ((0.6, 0.4, 9.0), (0.6, 0.0, 0.9)):
        with pytest.raises(InputError, match="longest side"):
            read_mesh_of_size(path, size)


def test_a_family_of_several_meshes_draws_one_by_the_seed(tmp_path):
    meshes = []
    for k, colour in enumerate([RED, GREEN]):
        box(0.4, 0.8 + k / 2, 0.4, colour=(*colour, 255)).export(tmp_path / f"{k}.ply")
        meshes.append(read_mesh(tmp_path / f"{k}.ply", up="y"))
    catalogue = Catalogue((mesh_family("object", meshes),))
    drawn = set()
    for seed in range(8):
        solids, materials = catalogue.solids("object", seed), catalogue.materials("object", seed)
        mesh = materials[solids.material[0]]
        assert isinstance(mesh, TexturedMesh) and solids.size[0] == pytest.approx(mesh.half())
        drawn.add(float(mesh.half()[2]))
    assert drawn == {np.float32(0.4), np.float32(0.65)}


def test_truth_of_a_placed_mesh_is_exact():
    """The points that the truth gives to the mesh lie on its surface, and no other point does."""
    mesh = trimesh.creation.icosphere(3, 0.4)
    corners = np.asarray(mesh.triangles, np.float32)
    ball = TexturedMesh(
        corners, np.full((len(corners), 3, 3), 0.5, np.float32), np.zeros((len(corners), 3, 2), np.float32), np.full(len(corners), -1)
    )
    catalogue = FURNITURE.with_meshes({"ball": ball})
    scene = make_scene(SeedSource(2, "mesh"), [["ball", "bin"]], catalogue=catalogue)
    placed = next(o for o in scene.objects if o.family == "ball")
    assert placed.base == 0 and placed.height == pytest.approx(0.8, abs=0.01)
    towards = np.arctan2(*(np.subtract(placed.position, (0, 0))[::-1]))
    pose = optical_pose((0, 0, 0.9), float(towards), 0.2)
    scan = DepthCamera(noise=0, quantum=1e-6, hole=0, grazing=1e-6).scan(scene, pose, np.random.default_rng(0))
    world = scan.cloud.xyz @ pose.rotation.T + pose.position
    away = np.linalg.norm(world - (*placed.position, 0.4), axis=1)
    on, valid = scan.instance == placed.instance, scan.cloud.valid()
    assert on.sum() > 500 and (scan.family[on] == catalogue.id("ball")).all()
    assert np.abs(away[on] - 0.4).max() < 5e-3  # an icosphere lies at most this much inside the sphere
    assert (away[valid & ~on] > 0.4 - 1e-3).all()


def small_mug() -> TexturedMesh:
    corners = np.asarray(trimesh.creation.cylinder(0.06, 0.2).triangles, np.float32)
    colours = np.broadcast_to(np.array([0.6, 0.05, 0.05], np.float32), (len(corners), 3, 3))
    return TexturedMesh(corners, colours, np.zeros((len(corners), 3, 2), np.float32), np.full(len(corners), -1, np.int32))


def test_small_mesh_stands_on_a_pillar_and_sets_show_it():
    catalogue = FURNITURE.with_meshes({"mug": small_mug()})
    scene = make_scene(SeedSource(2, "mesh"), [["mug"]], catalogue=catalogue)
    low, high = scene.solids.select(scene.solids.instance == 1).bounds()
    assert low[2] == pytest.approx(STAND, abs=1e-5) and high[2] == pytest.approx(STAND + 0.2, abs=1e-5)
    grounded = Catalogue((mesh_family("mug", [small_mug()], raised=False),))
    scene = make_scene(SeedSource(2, "mesh"), [["mug"]], catalogue=grounded)
    assert scene.solids.select(scene.solids.instance == 1).bounds()[0][2] == pytest.approx(0, abs=1e-5)
    made = concept_set("mug", 1, 1, config=make_set_config("tiny", catalogue=catalogue), sensor="depth", n_without_images=1)
    assert made.clouds[0].truth.sum() >= 80 and 0.02 < made.images[0].truth.mean() < 0.6
    assert not made.without_images[0].truth.any()
    red = made.images[0].rgb[made.images[0].truth > 0].astype(int)
    assert np.median(red[:, 0] - red[:, 1:].max(axis=1)) > 30


def test_meshes_stand_in_the_first_room_of_a_walk():
    config = WalkConfig(concepts=("stool",), catalogue=FURNITURE.with_meshes({"mug": small_mug()}))
    scene = walk_scene(config)
    mugs = [o for o in scene.objects if o.family == "mug"]
    assert mugs and min(o.position[0] for o in mugs) < scene.zones[0][1]
    assert config.labels(np.array([0, FURNITURE.id("stool"), config.catalogue.id("mug")])).tolist() == [0, 1, 0]


def glb(tree: object, payload: bytes = b"") -> bytes:
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<II", len(text), 0x4E4F534A) + text
    if payload:
        body += struct.pack("<II", len(payload), 0x004E4942) + payload
    return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body


PLY = "ply\nformat ascii 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n{}end_header\n{}"
FACES = "element face {}\nproperty list uchar int vertex_indices\n"
BAD = {
    "empty.obj": b"",
    "empty.ply": b"",
    "empty.glb": b"",
    "text.obj": b"hello\nworld\n",
    "text.ply": b"hello",
    "text.glb": b"hello hello hello hello",
    "points.ply": PLY.format(3, "", "0 0 0\n1 0 0\n0 1 0\n").encode(),
    "points.obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\n",
    "lines.obj": b"v 0 0 0\nv 1 0 0\nl 1 2\n",
    "beyond.obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 7\n",
    "beyond.ply": PLY.format(3, FACES.format(1), "0 0 0\n1 0 0\n0 1 0\n3 0 1 9\n").encode(),
    "nan.obj": b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
    "infinite.ply": PLY.format(3, FACES.format(1), "inf 0 0\n1 0 0\n0 1 0\n3 0 1 2\n").encode(),
    "far.obj": b"v 1e30 0 0\nv -1e30 0 0\nv 0 1e30 0\nf 1 2 3\n",
    "speck.obj": b"v 0 0 0\nv 1e-9 0 0\nv 0 1e-9 0\nf 1 2 3\n",
    "short.ply": PLY.format(3, FACES.format(1), "0 0 0\n").encode(),
    "huge.ply": PLY.format(10**12, FACES.format(10**12), "0 0 0\n").encode(),
    "huge_binary.ply": PLY.format(10**11, "", "").replace("ascii", "binary_little_endian").encode() + bytes(64),
    "tree.glb": glb([1, 2]),
    "nothing.glb": glb({"asset": {"version": "2.0"}}),
    "deep.glb": b"glTF" + struct.pack("<II", 2, 200_020) + struct.pack("<II", 200_000, 0x4E4F534A) + b"[" * 200_000,
    "cycle.glb": glb({"asset": {"version": "2.0"}, "scenes": [{"nodes": [0]}], "nodes": [{"children": [1]}, {"children": [0]}]}),
    "shared.glb": glb({"asset": {"version": "2.0"}, "nodes": [{"children": [1, 1]}, {}]}),
    "accessor.glb": glb(
        {
            "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
            "accessors": [{"componentType": 5126, "type": "VEC3", "count": 10**12}],
        }
    ),
    "cut.glb": None,
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_unusable_file_is_refused_in_one_line(name, tmp_path, capsys):
    path, data = tmp_path / "in" / name, BAD[name]
    path.parent.mkdir()
    path.write_bytes(box(0.3, 0.3, 0.3).export(file_type="glb")[:-80] if data is None else data)
    with pytest.raises(InputError, match=name) as error:
        read_mesh(path)
    assert "\n" not in str(error.value)
    assert main(["record-demo", "--out", str(tmp_path / "out"), "--meshes", str(path.parent)]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_folder_is_checked(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        read_meshes(tmp_path / "absent")
    (tmp_path / "readme.txt").write_text("no mesh")
    with pytest.raises(InputError, match="holds no mesh"):
        read_meshes(tmp_path)
    box(0.5, 0.5, 0.5).export(tmp_path / "mug.ply")
    assert list(read_meshes(tmp_path)) == ["mug"]
    box(0.5, 0.5, 0.5).export(tmp_path / "mug.obj")
    with pytest.raises(InputError, match=r"mug.ply: another mesh"):
        read_meshes(tmp_path)
    with pytest.raises(InputError, match="mesh chair: there is a family"):
        FURNITURE.with_meshes({"chair": small_mug()})


def test_texture_outside_the_folder_is_not_read(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (2, 2), RED).save(tmp_path / "secret.png")
    (tmp_path / "in/a.mtl").write_text("newmtl m\nKd 1 1 1\nmap_Kd ../secret.png\n")
    (tmp_path / "in/a.obj").write_text("mtllib a.mtl\nusemtl m\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n")
    assert not read_mesh(tmp_path / "in/a.obj").images


def test_command_records_meshes_with_truth(tmp_path, capsys):
    folder = tmp_path / "objects"
    folder.mkdir()
    box(800, 500, 900).export(folder / "crate.ply")
    arguments = ["--meshes", str(folder), "--mesh-unit", "mm", "--sensor", "depth", "--seconds", "4", "--cloud-rate", "0.5"]
    assert main(["record-demo", "--out", str(tmp_path / "out"), *arguments, "--image-rate", "0.5", "--pictures", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["concepts"] == ["crate"]
    with np.load(tmp_path / "out/truth.npz") as truth:
        assert (truth["cloud_labels"] == 1).sum() > 300 and (truth["image_masks"] == 1).any()
