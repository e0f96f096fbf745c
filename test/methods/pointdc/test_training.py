"""Distillation, warm-up and iterations on rooms whose tokens say what is what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.analysis import GeometryConfig
from geoseg_ros.geometry.poses import cloud_up, surface_up, upright
from geoseg_ros.learning.rooms import draw_sample, first_supervoxels, mean_token, room_of
from geoseg_ros.methods.pointdc.config import paper_config
from geoseg_ros.methods.pointdc.method import place_of
from geoseg_ros.methods.pointdc.objectives import IGNORED, Distillation, PseudoLabels, stepped
from geoseg_ros.methods.pointdc.training import Trainer
from geoseg_ros.projection.shots import Shot
from geoseg_ros.settings import with_values
from support.pointdc_worlds import SMALL, Pointwise, purity, room


@pytest.fixture(scope="module")
def rooms():
    return [room_of(room(seed)[0]) for seed in range(4)]


def truth_of_supervoxels(count: int = 4) -> np.ndarray:
    found = []
    for seed in range(count):
        scene, label = room(seed)
        found.append(np.array([np.bincount(label[scene.superpoint == k]).argmax() for k in range(scene.superpoint.max() + 1)]))
    return np.concatenate(found)


@pytest.mark.train
def test_classes_are_those_of_the_tokens(rooms) -> None:
    trainer = Trainer(Pointwise(), rooms, SMALL)
    fitted = trainer.fit()
    truth = truth_of_supervoxels()
    assert purity(fitted.label[fitted.used], truth[fitted.used]) > 0.9
    assert fitted.losses["distillation"] < 0.5 and set(fitted.losses) == {"distillation", "warm-up", "iterations"}
    assert np.array_equal(fitted.mean, mean_token(rooms)) and fitted.mean.max() > 0.1
    half = [v for v in fitted.network.state_dict().values() if v.is_floating_point()]
    assert all(torch.equal(value, value.half().float()) for value in half)


@pytest.mark.train
@pytest.mark.parametrize("values", [{"cluster.grouping": "spectral"}, {"cluster.grow_from": 30, "cluster.grow_to": 20}])
def test_options_of_the_grouping(rooms, values) -> None:
    fitted = Trainer(Pointwise(), rooms, with_values(SMALL, values)).fit()
    assert purity(fitted.label[fitted.used], truth_of_supervoxels()[fitted.used]) > 0.8


@pytest.mark.train
def test_number_of_classes_is_chosen(rooms) -> None:
    fitted = Trainer(Pointwise(), rooms, with_values(SMALL, {"classes": 0, "most": 8, "distill.epochs": 2})).fit()
    assert 2 <= len(fitted.centroids) <= 8 and set(fitted.label.tolist()) == set(range(len(fitted.centroids)))


@pytest.mark.train
def test_killed_training_gives_the_same_bytes(rooms, tmp_path) -> None:
    class Killed(Exception):
        pass

    def killer(stage, done, total):
        calls.append(stage)
        if len(calls) == limit:
            raise Killed

    calls, limit = [], 0
    config = with_values(SMALL, {"classes": 0, "most": 6, "distill.epochs": 2})
    whole = Trainer(Pointwise(), rooms, config, progress=killer).fit()
    steps = len(calls)
    for after in (3, 2, 3):
        calls.clear()
        limit = after
        with pytest.raises(Killed):
            trainer = Trainer(Pointwise(), rooms, config, progress=killer)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("geoseg_ros.learning.checkpoint.Checkpoint.due", True)
                trainer.fit(folder=tmp_path)
    limit = 0
    calls.clear()
    resumed = Trainer(Pointwise(), rooms, config, progress=killer).fit(folder=tmp_path)
    assert 0 < len(calls) < steps
    assert resumed.centroids.tobytes() == whole.centroids.tobytes()
    assert all(torch.equal(a, b) for a, b in zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True))


@pytest.mark.train
def test_time_is_shared_by_the_stages(rooms) -> None:
    trainer = Trainer(Pointwise(), rooms, with_values(SMALL, {"distill.epochs": 10_000, "cluster.warm_up": 1000, "cluster.epochs": 1000}))
    fitted = trainer.fit(minutes=3 / 60)
    assert fitted.seconds["distillation"] == pytest.approx(2.1, abs=1) and fitted.seconds["warm-up"] == pytest.approx(0.3, abs=1)


def test_losses(rooms) -> None:
    target = np.eye(3, 5, dtype=np.float32)
    target[2] = 0  # has no token
    fixed = torch.nn.Module()
    fixed.forward = lambda features: features
    batch = ((torch.tensor([[2.0, 0.0], [0.0, 3.0]]),), torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 2]))
    model = Distillation(fixed, 2, target, "cosine")
    with torch.no_grad():
        model.align.weight.copy_(torch.eye(5, 2))
        model.align.bias.zero_()
    assert model(batch)["token"].item() == pytest.approx((0 + 0 + 1) / 3)
    model.loss = "mse"
    assert model(batch)["token"].item() == pytest.approx(2 / 3 / 5)
    labels = PseudoLabels(fixed, 2, 2, 3, kappa=2.0, learnt=True)
    with torch.no_grad():
        labels.prototypes.copy_(5 * torch.eye(2))
    labels.label.copy_(torch.tensor([0, 1, IGNORED]))
    right, wrong = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    assert labels(batch)["class"].item() == pytest.approx((2 * right + wrong) / 3, rel=1e-5)


def test_samples_are_crops_of_columns_turned_about_z(rooms) -> None:
    config = replace(SMALL.augment, balls=0.0)
    sample = draw_sample(rooms[0], config, np.random.default_rng(0))
    assert len(sample.xyz) == config.crop and (sample.supervoxel >= 0).all()
    whole = draw_sample(rooms[0], replace(config, crop=0, no_colour=1.0, tilt=0.0, scale=0.0), np.random.default_rng(1))
    assert (whole.rgb == whole.rgb[0, 0]).all() and np.array_equal(whole.supervoxel, rooms[0].supervoxel)
    distance = np.linalg.norm(whole.xyz[1:] - whole.xyz[:-1], axis=1)
    assert np.allclose(distance, np.linalg.norm(np.diff(rooms[0].xyz, axis=0), axis=1), atol=1e-4)
    assert np.allclose(np.diff(whole.xyz[:, 2]), np.diff(rooms[0].xyz[:, 2]), atol=1e-4)
    assert not np.allclose(np.diff(whole.xyz[:, 0]), np.diff(rooms[0].xyz[:, 0]), atol=1e-2)


@pytest.fixture(scope="module")
def seen_room():
    """A room with two views: the camera stands in front of the wall and looks down, and nothing hides anything."""
    scene, _ = room(0)
    views = []
    for pitch in (0.3, 0.5):
        forward, down = np.array([0, np.cos(pitch), -np.sin(pitch)]), np.array([0, -np.sin(pitch), -np.cos(pitch)])
        turn = np.stack([[1, 0, 0], down, forward], axis=1)
        xyz = ((scene.xyz - (1, -2, 2)) @ turn).astype(np.float32)
        show = np.flatnonzero(scene.xyz[:, 0] > pitch)
        views.append(Shot(xyz[show], scene.rgb[show], np.where(show % 7, show, -1), turn))
    normal = np.where((scene.xyz[:, 1] > 1.95)[:, None], (0, -1, 0), (0, 0, 1)).astype(np.float32)
    scene = replace(scene, normal=normal, shots=tuple(views))
    return room_of(scene, GeometryConfig(voxel=0.05)), scene


def test_views_stand_as_the_room_and_as_a_live_cloud(seen_room) -> None:
    found, scene = seen_room
    for view, shot in zip(found.views, scene.shots, strict=True):
        show = shot.row >= 0
        assert np.allclose((view.xyz[show] - found.xyz[shot.row[show]]).std(axis=0), 0, atol=1e-4)
        assert np.array_equal(view.supervoxel[show], scene.superpoint[shot.row[show]]) and (view.supervoxel[~show] == -1).all()
        assert np.degrees(np.arccos((view.lean @ (0, 0, 1))[2])) < 3  # the floor is in view
        assert len(view.size) == view.own.max() + 1 and view.size.sum() == (view.own >= 0).sum() > 0.9 * len(view.xyz)
    assert room_of(scene).views == ()


def test_samples_are_views_too(seen_room) -> None:
    found, _ = seen_room
    config = replace(SMALL.augment, views=1.0, tilt=0.0, scale=0.0, crop=0)
    samples = [draw_sample(found, config, np.random.default_rng(k)) for k in range(6)]
    sizes = [len(view.xyz) for view in found.views]
    assert {len(sample.xyz) for sample in samples} == set(sizes) and all((sample.supervoxel == -1).any() for sample in samples)
    whole = draw_sample(found, replace(config, views=0.0, balls=0.0), np.random.default_rng(0))
    assert len(whole.xyz) == len(found.xyz)


@pytest.mark.train
def test_spread_is_of_rooms_and_views(seen_room) -> None:
    found, _ = seen_room
    trainer = Trainer(Pointwise(), [found], SMALL)
    fitted = trainer.fit()
    large = sum(int((view.size >= SMALL.min_supervoxel).sum()) for view in found.views)
    assert len(fitted.view_label) == len(fitted.view_similarity) == large > 5
    place = place_of(trainer, fitted, "", ("", ""))
    label = np.concatenate([fitted.label[fitted.used], fitted.view_label])
    distance = 1 - np.concatenate([fitted.similarity[fitted.used], fitted.view_similarity])
    for k in np.unique(label):
        assert place.spread.quantiles[k, -1] == pytest.approx(distance[label == k].max(), abs=1e-6)


def test_some_samples_are_balls_without_the_floor(rooms) -> None:
    config = replace(SMALL.augment, balls=1.0, tilt=0.0)
    samples = [draw_sample(rooms[0], config, np.random.default_rng(k)) for k in range(20)]
    sizes = np.array([len(sample.xyz) for sample in samples])
    assert sizes.min() >= 0.05 * config.crop - 1 and sizes.max() <= 0.5 * config.crop
    floor = np.unique(rooms[0].supervoxel[rooms[0].xyz[:, 2] < 0.01])
    assert 0 < sum(not np.isin(sample.supervoxel, floor).any() for sample in samples) < 20


@pytest.mark.parametrize("up", [(0, 0, 1), (0, -1, 0), (0, 0, -1), (0.6, 0, 0.8), (1, 0, 0)])
def test_upright_turns_up_to_z(up) -> None:
    turn = upright(np.array(up, float))
    assert np.allclose(turn @ up, [0, 0, 1]) and np.allclose(turn @ turn.T, np.eye(3)) and np.linalg.det(turn) > 0


def test_up_is_that_of_the_surfaces() -> None:
    rng = np.random.default_rng(0)
    floor = np.tile([0.0, 0.0, 1.0], (300, 1)) + 0.03 * rng.normal(size=(300, 3))
    wall = np.tile([1.0, 0.0, 0.0], (900, 1)) + 0.03 * rng.normal(size=(900, 3))
    normal = np.concatenate([floor, -floor[:50], wall])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    tilted = np.array([np.sin(0.5), 0, np.cos(0.5)])  # 29 degrees
    assert np.degrees(np.arccos(surface_up(normal, tilted)[2])) < 1
    assert np.array_equal(surface_up(wall, np.array([0.0, 0, 1])), [0, 0, 1])


def test_up_of_a_cloud_is_by_the_axes_of_its_frame() -> None:
    scene, _ = room(0)
    floor = np.tile([[0.0, 0.0, 1.0]], (len(scene.xyz), 1))
    assert np.allclose(cloud_up(scene.xyz, floor), [0, 0, 1])
    # seen by a camera: x right, y down, z forward
    seen = (scene.xyz - (1, -2, 1)) @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert np.allclose(cloud_up(seen, floor @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])), [0, -1, 0])


def test_rooms_without_tokens_or_with_too_few_supervoxels_are_refused(rooms) -> None:
    blind = [replace(rooms[0], known=np.zeros_like(rooms[0].known))]
    with pytest.raises(InputError, match="no frame shows"):
        Trainer(Pointwise(), blind, SMALL)
    with pytest.raises(InputError, match="no super-voxel has 99999 points"):
        Trainer(Pointwise(), rooms, with_values(SMALL, {"min_supervoxel": 99999}))
    with pytest.raises(InputError, match="classes: expected 1 to"):
        Trainer(Pointwise(), rooms[:1], with_values(SMALL, {"classes": 254, "distill.epochs": 0.1})).fit()


def test_presets_and_settings() -> None:
    paper = paper_config()
    assert (paper.distill.epochs, paper.cluster.warm_up, paper.cluster.epochs, paper.cluster.every) == (200, 30, 60, 5)
    assert (paper.batch, paper.voxel, paper.dim, paper.distill.rate, paper.cluster.rate) == (8, 0.05, 128, 1e-3, 3e-2)
    with pytest.raises(InputError, match="classes: expected at least 2"):
        with_values(paper, {"classes": 1})
    with pytest.raises(InputError, match="classes"):
        with_values(paper, {"classes": 1000})
    with pytest.raises(InputError, match="grow_from"):
        with_values(paper, {"cluster.grow_from": 10})
    assert [stepped(0.5, 2.0)(step, 0.0) for step in (0, 9, 10, 20)] == [1.0, 1.0, 0.5, 0.25]
    assert first_supervoxels([]).tolist() == [0]
