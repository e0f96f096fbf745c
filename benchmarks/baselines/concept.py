"""The contrast's own view of a concept, for baselines that look into it."""

from __future__ import annotations

from geoseg_ros.evaluate.methods import Tools
from geoseg_ros.methods.base import Material
from geoseg_ros.methods.contrast.pack import Concept
from geoseg_ros.methods.registry import open_method


def learn_concept(tools: Tools, material: Material) -> Concept:
    """What the contrast learns from ``material``."""
    return Concept.from_pack(open_method("contrast").learn(material, tools.context))
