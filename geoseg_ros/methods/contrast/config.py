"""Settings of the contrast when it is used: how evidence is taken and decided."""

from __future__ import annotations

from dataclasses import dataclass

from geoseg_ros.projection.scene import SceneConfig
from geoseg_ros.settings import Settings, mirrored, setting


@dataclass(frozen=True)
class CosegConfig(Settings):
    """How evidence is taken and decided."""

    image_side: int = mirrored(SceneConfig, "image_side")
    neighbours: int = setting(3, "most similar reference tokens that a token's similarity to a concept is averaged over", range=(1, 64))
    p_max: float = setting(0.05, "a concept is present when its p-value is below this", range=(0.0, 1.0), live=True)
    size_weight: float = setting(
        0.01, "evidence, in cosine, that one nat of a proposal's size in metres counts for; 0: size does not count", range=(0.0, 1.0)
    )
    encoder_weight: float = setting(
        0.5,
        "weight of the encoder of clouds beside drawings, in turns of a LiDAR without colour, for concepts from photographs alone; 0: none",
        range=(0.0, 10.0),
        live=True,
    )
    top_share: float = setting(0.035, "an image's score is the mean over this share of its tokens, the strongest", range=(0.0, 1.0))
    min_share: float = setting(
        0.002, "connected parts of a mask that cover less than this share of the image are dropped", range=(0.0, 1.0), live=True
    )
    image_margin: float = setting(0.02, "evidence, in cosine, above which a pixel belongs to a concept", range=(-1.0, 1.0), live=True)
    guide_radius: int = setting(
        24,
        "radius of the guided filter that fits masks to the image; 0: no filter",
        unit="pixels of the image as the backbone sees it",
        range=(0, 64),
        live=True,
    )
    cut_rounds: int = setting(
        1, "rounds of GrabCut that fit the border of a mask to the image's colours; 0: none", range=(0, 10), live=True
    )
