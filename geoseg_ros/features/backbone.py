"""The interface of every image backbone, and the one function that opens them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class ImageBackbone(Protocol):
    """Frozen image network.

    Attributes:
        name: what the user asked for, e.g. ``geoseg_tiny``.
        stride: pixels per token side; image sides must be multiples of it.
        dim: width D of a token.
        hash: hex digest of weights and preprocessing; a concept pack made with another one is refused.
        supervision: what labels the network has ever seen, in words.
    """

    name: str
    stride: int
    dim: int
    hash: str
    supervision: str

    def tokens(self, images: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """Patch features of uint8 RGB images [V, H, W, 3].

        Returns:
            float32 tokens [V, H / stride, W / stride, D] and the global vector [V, D] (the class token where the
            network has one, else the mean token). Not normalised.
        """
        ...
