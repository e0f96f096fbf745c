"""A method of one's own: targets are found by their mean colour. Not a good method, but a whole one.

A package makes it known with an entry point in its pyproject.toml:

  [project.entry-points."geoseg.methods"]
  colour = "own_method:ColourMethod"

Then `geoseg train --method colour ...`, `geoseg coseg --method colour ...`, `geoseg evaluate --methods colour` and the live node know it.
"""

import numpy as np
import torch

from geoseg_ros.methods.base import Evidence, Method, Pack

REACH = 60.0  # distance in RGB from the target's colour, at most


class ColourSegmenter:
    """Labels what is near the colour of a target."""

    dense, config = False, None

    def __init__(self, packs):
        self.labels = tuple(pack.name for pack in packs)
        self.colours = np.stack([pack.tensors["colour"].numpy() for pack in packs])

    def _find(self, rgb):
        distance = np.linalg.norm(rgb[..., None, :].astype(float) - self.colours, axis=-1)  # [..., C]
        label = np.where(distance.min(-1) < REACH, distance.argmin(-1) + 1, 0)
        share = np.bincount(label.ravel(), minlength=len(self.labels) + 1)[1:] / max(label.size, 1)
        p_value = np.where(share > 0.01, 1e-4, 1.0)  # a real method calibrates this
        return Evidence(share, p_value, p_value < 0.05, label)

    def image(self, scene, known=()):
        return self._find(scene.image)

    def cloud(self, scene, known=()):
        rgb = scene.geometry.rgb  # of the voxels; the pipeline carries labels back to the points and builds objects
        return None if rgb is None else self._find(rgb)


class ColourMethod(Method):
    """Takes the middle of each image for the target."""

    name = "colour"

    def learn(self, material, context, seconds=None):
        middles = [
            image[image.shape[0] // 3 : -image.shape[0] // 3, image.shape[1] // 3 : -image.shape[1] // 3] for image in material.images
        ]
        colour = torch.tensor(np.mean([middle.mean((0, 1)) for middle in middles], axis=0), dtype=torch.float32)
        return Pack(material.name, self.name, context.backbone.name, context.backbone.hash, {"colour": colour})

    def open(self, packs, context):
        return ColourSegmenter(packs)
