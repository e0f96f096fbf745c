"""A pipeline that is quick and predictable: colour and height thresholds. As a script: ``coseg_node`` with it."""

import sys
import time

import numpy as np

from geoseg_ros.errors import InputError
from geoseg_ros.results import CloudResult, ImageResult, LabelSpace, ObjectInstance, Presence
from geoseg_ros.runtime.pipeline import PipelineConfig


class FakePipeline:
    """Label 1 ``red``: red pixels. Label 2 ``high``: points above z = 1, one object. ``delay``: seconds per item."""

    def __init__(self, delay: float = 0.0) -> None:
        self.labels = LabelSpace(("red", "high"))
        self.backbone_name, self.backend, self.pack_versions = "none", "fake", ["1", "1"]
        self.config = PipelineConfig()
        self.delay = delay
        self.calls = {"image": 0, "cloud": 0}
        self.error: Exception | None = None

    def _begin(self, kind):
        self.calls[kind] += 1
        time.sleep(self.delay)
        if self.error is not None:
            raise self.error

    def process_image(self, image):
        self._begin("image")
        mask = ((image[..., 0] > 200) & (image[..., 1] < 100)).astype(np.uint8)
        return ImageResult(mask, [Presence(1, "red", 1.0, 0.01, bool(mask.any()), float(mask.mean()))])

    def process_cloud(self, cloud):
        self._begin("cloud")
        high = cloud.xyz[:, 2] > 1.0
        label = np.where(high, 2, 0).astype(np.uint32)
        count = int(high.sum())
        objects = []
        if count:
            turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
            objects = [ObjectInstance(2, "high", 1, 0.75, 0.01, np.array([1.0, 2.0, 3.0]), turn, np.array([0.1, 0.2, 0.3]), count)]
        confidence = np.where(high, 0.75, 0.0).astype(np.float32)
        return CloudResult(label, high.astype(np.uint32), confidence, objects, [])


def factory(parameters):
    """What the node calls for a pipeline; one name of a pack is refused, one takes its time."""
    if "missing.pack" in parameters.packs:
        raise InputError("missing.pack: no such file, expected a concept pack")
    if "slow.pack" in parameters.packs:
        time.sleep(3.0)
    return FakePipeline()


if __name__ == "__main__":
    from geoseg_ros.ros.coseg_node import main

    sys.exit(main(pipeline_factory=factory))
