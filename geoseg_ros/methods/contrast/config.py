"""Settings of the training-free co-segmentation; the symbols are those of the documents named beside them."""

from __future__ import annotations

from dataclasses import dataclass, field


def _option(default: float | int, text: str, low: float, high: float, changeable: bool = False):
    return field(default=default, metadata={"help": text, "range": (low, high), "changeable": changeable})


@dataclass(frozen=True)
class CosegConfig:
    """How evidence is taken and decided. Attributes are documented by their ``help`` metadata."""

    image_side: int = _option(640, "longest side of the image given to the backbone, pixels; smaller images are not enlarged", 64, 2048)
    neighbours: int = _option(3, "similarities averaged against each set of reference tokens (max_per_image aggregation, smoothed)", 1, 64)
    p_max: float = _option(0.05, "a concept is present when its p-value is below this", 0.0, 1.0, True)
    size_weight: float = _option(0.01, "evidence, in cosine, of one nat of what a proposal's metric size says; 0 = off", 0.0, 1.0)
    top_share: float = _option(0.035, "an image's score is the mean of this share of its tokens, the strongest", 0.0, 1.0)
    min_share: float = _option(0.002, "connected parts of a mask below this share of the image are dropped", 0.0, 1.0, True)
    image_margin: float = _option(0.02, "evidence above which a pixel belongs to a concept, in cosine", -1.0, 1.0, True)
    guide_radius: int = _option(24, "radius of the guided filter, pixels of the working image; 0 switches it off", 0, 64, True)
    cut_rounds: int = _option(1, "rounds of GrabCut that lay a mask's border along the image's colours; 0 switches it off", 0, 10, True)


@dataclass(frozen=True)
class TrainConfig:
    """How a concept's reference tokens are found in its set."""

    scales: tuple[float, ...] = (1.0, 1.5)
    """Sizes, relative to ``CosegConfig.image_side``, at which reference photographs are read: views show objects larger."""
    border: float = 0.1
    """Share of each side of a photograph taken as background when the foreground is looked for (border prior)."""
    foreground_low: float = 0.02
    foreground_high: float = 0.2
    """Bounds of the share of a set's tokens first taken as foreground; in between Otsu's threshold decides."""
    foreground_most: float = 0.5
    """Largest share after what is more like the foreground than like the rest was added."""
    still: float = 0.8
    """Tokens that look this much alike (median cosine) at the same place in the other photographs are never foreground."""
    rounds: int = 2
    """Foreground and prototypes are re-estimated from each other so many times."""
    partners: int = 16
    """Images (evenly spread over the set) that each image is correlated with: the cost is linear in the set."""
    foreground_tokens: int = 512
    context_tokens: int = 512
    background_tokens: int = 1024
    """Prototypes kept of each kind (spherical k-means)."""
    view_tokens: int = 256
    """Prototypes kept per view domain where the concept has clouds."""
    own_share: float = 0.65
    """A proposal of a concept's own cloud is a positive if it stands so far above the null proposals, relative to the best of its cloud."""
    present_share: float = 0.5
    """A cloud of the set shows the concept if as much, above the null proposals, speaks for its best one, relative to what is usual."""
