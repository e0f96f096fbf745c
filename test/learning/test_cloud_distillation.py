"""Training of the encoder of clouds: what it draws, what it learns, its file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.learning.cloud_distillation import EncoderConfig, EncoderTask, agreement, train_encoder
from geoseg_ros.learning.sensor_clouds import (
    LearningRoom,
    SampleConfig,
    SensorCloud,
    draw_cloud,
    learning_room,
    load_room,
    save_room,
)
from geoseg_ros.learning.steps import Step
from geoseg_ros.nets.encoder_file import load_encoder, save_encoder
from geoseg_ros.nets.point_encoder import PointEncoder
from support.pointdc_worlds import room as lifted_room

MEAN = np.zeros(8, np.float32)
SMALL = EncoderConfig(epochs=40, batch=2, points=300, rate=1e-2, warm_up=3, average=0.8, sample=SampleConfig(points=1500, keep=0.8))


def encoder(seed: int = 0) -> PointEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PointEncoder(16, 8, drop=0.0)


@pytest.fixture(scope="module")
def room() -> LearningRoom:
    """A floor below four towers, which have a token of their own; as a coloured room, and as a LiDAR sees it."""
    rng = np.random.default_rng(0)
    floor = np.column_stack([rng.uniform(0, 3, (2500, 2)), np.zeros(2500)])
    towers = [np.column_stack([rng.uniform(0, 0.4, (400, 2)) + (x, y), rng.uniform(0.1, 1.5, 400)]) for x in (0.5, 2) for y in (0.5, 2)]
    xyz = np.concatenate([floor, *towers]).astype(np.float32)
    part = np.repeat(np.arange(5), [2500, 400, 400, 400, 400])
    rgb = np.where(part[:, None] > 0, [200, 40, 40], [90, 90, 90]).astype(np.uint8)
    token = np.zeros((6, 8), np.float32)
    token[0, 0], token[1:5, 1] = 1, 1  # the last is never seen
    clouds = (SensorCloud("room", xyz, rgb, part), SensorCloud("lidar", xyz, None, np.where(part == 4, -1, part)))
    return LearningRoom("room", "hash", token, clouds)


def test_room_of_frames_has_every_sensor_and_is_read_as_it_was_written(tmp_path) -> None:
    scene, _ = lifted_room()
    sweep = Cloud(scene.xyz[::2] + np.float32(0.01))
    far = Cloud(scene.xyz + np.float32(50))  # nothing of the room: left out
    made = learning_room(scene, (), [sweep, far])
    assert [cloud.kind for cloud in made.clouds] == ["room", "lidar"] and made.clouds[1].rgb is None
    nearest = scene.superpoint[::2]
    assert len(made.clouds[1].supervoxel) == len(nearest) and (np.sort(made.clouds[1].supervoxel) == np.sort(nearest)).mean() > 0.9
    save_room(tmp_path / "room.safetensors", made)
    found = load_room(tmp_path / "room.safetensors")
    assert found.backbone == made.backbone and np.array_equal(found.token, made.token)
    for a, b in zip(found.clouds, made.clouds, strict=True):
        assert a.kind == b.kind and np.array_equal(a.xyz, b.xyz) and np.array_equal(a.supervoxel, b.supervoxel)


def test_samples_are_crops_of_every_kind_half_of_them_without_colour(room: LearningRoom) -> None:
    config = SampleConfig(points=1000)
    drawn = [draw_cloud(room, config, np.random.default_rng(k)) for k in range(200)]
    kinds = [cloud.kind for cloud in drawn]
    coloured = [cloud.rgb is not None for cloud in drawn if cloud.kind == "room"]
    assert 0.35 < kinds.count("room") / 200 < 0.65 and 0.35 < np.mean(coloured) < 0.65
    assert all(0 < len(cloud.xyz) <= 1000 and len(cloud.xyz) == len(cloud.supervoxel) for cloud in drawn)


def test_small_supervoxels_count_more_and_unseen_ones_not_at_all(room: LearningRoom) -> None:
    unseen = replace(room, token=room.token * np.array([[1], [1], [1], [0], [1], [1]], np.float32))
    task = EncoderTask(encoder(), [unseen], MEAN, SMALL)
    assert set(task.batch(Step(0))[2].tolist()) <= {0, 1, 2, 4}
    use = room.clouds[0].supervoxel != 3
    group = room.clouds[0].supervoxel[task._drawn(room.clouds[0], use, np.random.default_rng(0))]
    assert abs((group > 0).mean() - 60 / 110) < 0.1  # three towers of 400 points and a floor of 2500, by the roots


def test_learns_from_points_alone_and_goes_on_where_it_was_stopped(room: LearningRoom, tmp_path) -> None:
    network, state = encoder(), tmp_path / "state"
    before = agreement(encoder().eval(), [room], MEAN)
    whole = train_encoder(network, [room], MEAN, SMALL)
    after = agreement(whole.encoder, [room], MEAN)
    assert set(after) == {"room", "room without colour", "lidar without colour"}
    assert all(after[kind] > max(0.8, before[kind]) for kind in after), after

    def stop(run) -> None:
        if run.step == 9 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt

    from geoseg_ros.learning.checkpoint import Checkpoint

    saved, Checkpoint.due = Checkpoint.due, property(lambda self: True)  # type: ignore[assignment]
    try:
        with pytest.raises(KeyboardInterrupt):
            train_encoder(encoder(), [room], MEAN, SMALL, state, stop)
        again = train_encoder(encoder(), [room], MEAN, SMALL, state)
    finally:
        Checkpoint.due = saved  # type: ignore[assignment]
    assert again.steps == whole.steps
    for a, b in zip(again.encoder.state_dict().values(), whole.encoder.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_refuses_what_cannot_be_learnt(room: LearningRoom) -> None:
    with pytest.raises(InputError, match="epochs or minutes"):
        train_encoder(encoder(), [room], MEAN, EncoderConfig())
    with pytest.raises(InputError, match="tokens of 8 numbers"):
        train_encoder(encoder(), [], MEAN, SMALL)


def test_file_of_an_encoder(tmp_path) -> None:
    path, network = tmp_path / "encoder.safetensors", encoder()
    save_encoder(path, network, "hash", torch.ones(8), {"minutes": 1}, torch.eye(8)[:3])
    found = load_encoder(path)
    assert torch.equal(found.background, torch.eye(8)[:3])
    assert found.backbone == "hash" and found.info["minutes"] == 1 and torch.equal(found.mean, torch.ones(8))
    assert torch.allclose(found.network.last.weight, network.last.weight, atol=1e-3)
    save_encoder(path, encoder(1), "hash", torch.ones(8), {"minutes": 1})
    assert load_encoder(path).hash != found.hash
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="geoseg_encoder"):
        load_encoder(path)
