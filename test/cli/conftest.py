"""What the tests of the commands share."""

import cv2
import numpy as np
import pytest

from geoseg_ros import api
from geoseg_ros.backbones import registry as backbones
from geoseg_ros.io.cloud_files import write_ply
from geoseg_ros.io.folders import write_image
from geoseg_ros.io.recordings import Recording, RecordingWriter
from geoseg_ros.runtime import pipeline
from geoseg_ros.runtime.pipeline import PipelineConfig
from geoseg_ros.runtime.replay import replay
from geoseg_ros.simulation import bank as background
from support.fake_pipeline import FakePipeline
from support.fake_world import CONFIG, picture, table
from support.learning_cases import CLOUD_THINGS

STEP = 10**8


@pytest.fixture
def fake(monkeypatch, fake_backbone, fake_bank):
    """Commands open the backbone that sees colours only, and its bank, and look at small pictures."""
    monkeypatch.setattr(backbones, "open_backbone", lambda spec, device="cpu": fake_backbone)
    monkeypatch.setattr(background, "find_bank", lambda backbone: fake_bank)
    monkeypatch.setattr(api, "open_bank", lambda backbone, progress=None: fake_bank)
    for module in (api, pipeline):
        monkeypatch.setattr(module, "PipelineConfig", lambda *given: PipelineConfig(*given or (CONFIG.coseg,)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders ``images``, ``clouds``, ``without`` (both kinds): red objects; image 5 does not show it."""
    root = tmp_path_factory.mktemp("sets")
    for k in range(6):
        objects = ("green", "yellow") if k == 5 else ("red", "green", "yellow")[: 1 + k % 3]
        write_image(root / "images" / f"photo{k}.png", picture(k, objects, (90 + k, 120))[0])
    for k in range(3):
        write_ply(root / "clouds" / f"scan{k}.ply", table(k, CLOUD_THINGS[k])[0])
        write_image(root / "without" / f"{k}.png", picture(50 + k, ("green",))[0])
    write_ply(root / "without" / "empty.ply", table(50, ("green", "cyan"))[0])
    return root


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list:
    """The parameters that pipelines were opened with; these label points above 1 m ("high") and red pixels ("red")."""
    parameters: list = []
    monkeypatch.setattr("geoseg_ros.runtime.opening.PipelineOpener.__call__", lambda _, given: parameters.append(given) or FakePipeline())
    return parameters


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A recording of three images and clouds, what is red in the images, and the results of a replay."""
    root = tmp_path_factory.mktemp("export")
    rng, red = np.random.default_rng(3), []
    with RecordingWriter(root / "in.mcap") as writer:
        for k in range(3):
            xyz = rng.uniform(0, 2, (40, 3)).astype(np.float32)
            xyz[0] = np.nan
            writer.write_message("/lidar", k * STEP + 5, cloud_with_intensity(writer.types.types, k * STEP + 5, xyz))
            image = np.full((30, 40, 3), 90, np.uint8)
            if k:
                cv2.circle(image, (12, 12), 8, (250, 10, 10), -1)
                cv2.circle(image, (12, 12), 3, (90, 90, 90), -1)  # a hole
                image[25:28, 20 : 20 + 5 * k] = 250, 10, 10
                image[2, 35] = 250, 10, 10  # smaller than an instance
            writer.write_image("/image", k * STEP + 9, "camera", image)
            red.append((image[..., 0] > 200) & (image[..., 1] < 100))
    with Recording(root / "in.mcap") as recording:
        replay(recording, FakePipeline(), root / "out.mcap")
    return root, np.array(red)


def cloud_with_intensity(types, stamp, xyz):
    rows = np.column_stack([xyz, np.arange(len(xyz))]).astype("<f4")
    field = types["sensor_msgs/msg/PointField"]
    fields = [field(name=name, offset=4 * k, datatype=7, count=1) for k, name in enumerate(("x", "y", "z", "intensity"))]
    time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    header = types["std_msgs/msg/Header"](stamp=time, frame_id="lidar")
    size, data = len(rows), rows.view(np.uint8).ravel()
    return types["sensor_msgs/msg/PointCloud2"](
        header=header, height=1, width=size, fields=fields, is_bigendian=False, point_step=16, row_step=16 * size, data=data, is_dense=False
    )
