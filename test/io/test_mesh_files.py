"""Meshes of single objects from files."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.meshes import Mesh
from geoseg_ros.io.mesh_files import read_mesh, write_mesh


@pytest.fixture(scope="module")
def ball() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(3, 0.2)


def test_a_written_mesh_comes_back(tmp_path, ball):
    colour = np.where(np.array(ball.vertices)[:, :1] > 0, [200, 10, 10], [10, 10, 200]).astype(np.uint8)
    write_mesh(tmp_path / "ball.ply", Mesh(np.array(ball.vertices, np.float32), np.array(ball.faces, np.int64), colour))
    found = read_mesh(tmp_path / "ball.ply")
    assert len(found) == len(ball.vertices) and len(found.faces) == len(ball.faces)
    left = found.vertices[:, 0] < -0.02
    assert (found.colour[left] == [10, 10, 200]).all() and (found.colour[found.vertices[:, 0] > 0.02] == [200, 10, 10]).all()
    assert 100 < len(read_mesh(tmp_path / "ball.ply", faces=300).faces) <= 300


@pytest.mark.parametrize("suffix", ["obj", "glb"])
def test_y_up_becomes_z_up_and_front_x(tmp_path, suffix):
    rod = trimesh.creation.capsule(1.0, 0.1)  # along z of the file: the front
    rod.apply_translation((0, 3, 0))
    rod.export(tmp_path / f"rod.{suffix}")
    found = read_mesh(tmp_path / f"rod.{suffix}").vertices
    assert np.ptp(found, axis=0).argmax() == 0 and found[:, 2].mean() == pytest.approx(3, abs=0.01)
    assert np.ptp(read_mesh(tmp_path / f"rod.{suffix}", up="z").vertices, axis=0).argmax() == 2


def test_two_parts_and_points_that_are_not_finite(tmp_path, ball):
    other = ball.copy().apply_translation((1, 0, 0))
    vertices = np.concatenate([ball.vertices, other.vertices, [[np.nan, 0, 0]]]).astype(np.float32)
    faces = np.concatenate([ball.faces, other.faces + len(ball.vertices), [[0, 1, len(vertices) - 1]]])
    write_mesh(tmp_path / "two.ply", Mesh(vertices, np.asarray(faces, np.int64)))
    found = read_mesh(tmp_path / "two.ply")
    assert np.isfinite(found.vertices).all() and found.components().max() == 1 and len(found.faces) == 2 * len(ball.faces)


def test_meshes_that_are_too_small_or_too_large(tmp_path, ball):
    few = Mesh(np.array(ball.vertices, np.float32), np.array(ball.faces[:10], np.int64))
    write_mesh(tmp_path / "few.ply", few)
    with pytest.raises(InputError, match="few.ply: .*10 usable faces, expected at least 20"):
        read_mesh(tmp_path / "few.ply")
    header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\nelement face 10000000\n"
    (tmp_path / "many.ply").write_text(header + "property list uchar int vertex_indices\nend_header\n" + "0\n" * 5_100_000)
    with pytest.raises(InputError, match="10000000 vertices or faces, expected at most 3000000"):
        read_mesh(tmp_path / "many.ply")
    with pytest.raises(InputError, match="No such file"):
        read_mesh(tmp_path / "none.glb")
    with pytest.raises(InputError, match="up x"):
        read_mesh(tmp_path / "few.ply", up="x")
