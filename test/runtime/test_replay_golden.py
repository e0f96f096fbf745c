"""A tiny recording of known contents through the real pipeline: every label that comes out is held against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.recordings import Recording, RecordingWriter
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig
from geoseg_ros.runtime.replay import replay
from support.fake_world import CONFIG, picture, table

CLOUDS = [("red", "green"), ("green", "cyan"), ("red", "green"), ("red", "blue"), ("red", "blue")]
IMAGES = [("red",), ("green", "yellow"), ("red", "blue")]


@pytest.fixture(scope="module")
def pipeline(fake_backbone, fake_packs):
    return Pipeline(fake_backbone, [fake_packs["red"], fake_packs["blue"]], PipelineConfig(coseg=CONFIG.coseg))


def test_labels_and_tracks_of_a_recording(tmp_path: Path, pipeline: Pipeline) -> None:
    clouds = [table(70, objects) for objects in CLOUDS]
    images = [picture(80 + i, objects) for i, objects in enumerate(IMAGES)]
    with RecordingWriter(tmp_path / "in.mcap") as writer:
        for i, (cloud, _) in enumerate(clouds):
            writer.write_cloud("/lidar", 10**18 + i * 2 * 10**8, "lidar", Cloud(cloud.xyz, cloud.rgb))
        for i, (image, _) in enumerate(images):
            writer.write_image("/camera", 10**18 + i * 3 * 10**8, "camera", image)
    for out in ("a/out.mcap", "b/out.mcap"):
        with Recording(tmp_path / "in.mcap") as recording:
            report = replay(recording, pipeline, tmp_path / out)
    assert (tmp_path / "a/out.mcap").read_bytes() == (tmp_path / "b/out.mcap").read_bytes()
    assert (report.clouds, report.images, report.rejected) == (5, 3, [])
    found: dict[str, list] = {"points_labeled": [], "objects": [], "mask": []}
    with Recording(tmp_path / "a/out.mcap") as recording:
        for message in recording.messages():
            found.setdefault(message.topic.rsplit("/", 1)[1], []).append(recording.decode(message))
    for (_, truth), message, objects in zip(clouds, found["points_labeled"], CLOUDS, strict=True):
        label = np.frombuffer(message.data, np.uint32).reshape(-1, 7)[:, 4]
        for number, name in ((1, "red"), (2, "blue")):
            if name in objects:
                golden = np.count_nonzero(truth == 1 + objects.index(name))
                assert abs(np.count_nonzero(label == number) - golden) < 0.2 * golden, (objects, name)
            else:
                assert not (label == number).any(), (objects, name)
    reds = [[entry.track_id for entry in message.objects if entry.name == "red"] for message in found["objects"]]
    assert reds == [[0], [], [0], [1], [1]], "one sighting is no track; the same number once there are two in a row"
    for (_, truth), message, objects in zip(images, found["mask"], IMAGES, strict=True):
        red = np.asarray(message.data) == 1
        golden = np.count_nonzero(truth) if "red" in objects else 0
        assert abs(np.count_nonzero(red) - golden) <= 0.4 * golden, objects
