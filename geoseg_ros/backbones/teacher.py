"""Vision-language teachers: image features and text embeddings in one space; which of them are meant is said by their inner product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class VisionLanguageTeacher(Protocol):
    """Frozen pair of networks, or what stands in for one.

    Attributes:
        name: as given by the user.
        dim: width D of features and embeddings.
        hash: hex digest of all that features and embeddings depend on.
        supervision: description of what it was trained with.
        licence: of its weights, as far as it is known.
        text: whether it has embeddings of words; where it has not, classes have no names.
        scale: factor of the cosines before a softmax over classes.
    """

    name: str
    dim: int
    hash: str
    supervision: str
    licence: str
    text: bool
    scale: float

    def encode_image(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """Dense features of an image uint8 RGB [H, W, 3]: float32 [h, w, D], of unit length, or zeros where nothing is said of a place."""
        ...

    def encode_text(self, names: Sequence[str]) -> torch.Tensor:
        """Embeddings of C class names, float32 [C, D], of unit length.

        Raises:
            InputError: it has no text, or does not know a word.
        """
        ...
