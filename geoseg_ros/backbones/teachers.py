"""Opening of teachers by name, and those that need no vision-language network: a classifier of images, and tokens without words.

Neither is CLIP. The classifier knows the objects that ImageNet's thousand classes name, and nothing else; the prototypes know no word.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.efficientnet import STRIDE, InvertedResidual, Trunk
from geoseg_ros.backbones.imagenet_words import WORDS, word_classes
from geoseg_ros.backbones.lite2 import EPSILON, PACKAGE, VERSION, fill_block, fill_trunk, package_weights
from geoseg_ros.backbones.teacher import VisionLanguageTeacher
from geoseg_ros.backbones.tokens import photo_tokens, resize, working_size
from geoseg_ros.errors import InputError

KNOWN = "lite2, prototypes, prototypes:BACKBONE, clip:MODEL_OR_FOLDER, open_clip:MODEL?weights=FILE, onnx:IMAGE_FILE?words=FILE"


def open_teacher(spec: str, backbone: ImageBackbone | None = None, device: str = "cpu") -> VisionLanguageTeacher:
    """Open the teacher that ``spec`` names.

    Args:
        spec: one of
            ``lite2``: class scores of an ImageNet classifier, made dense (optional package);
            ``prototypes``, ``prototypes:BACKBONE``: tokens of an image backbone; classes without names;
            ``clip:MODEL_OR_FOLDER``: CLIP and its kin by ``transformers`` (see :mod:`geoseg_ros.backbones.clip`);
            ``open_clip:MODEL?weights=FILE``: the same by ``open_clip``;
            ``onnx:IMAGE_FILE?words=FILE``: exported networks (see :mod:`geoseg_ros.backbones.onnx_teacher`).
        backbone: of ``prototypes`` alone.
        device: torch device.

    Raises:
        InputError: unknown spec, absent or wrong file, missing optional package.
    """
    kind, _, rest = spec.partition(":")
    if spec == "lite2":
        return ClassifierTeacher(device)
    if kind == "prototypes":
        from geoseg_ros.backbones.registry import open_backbone

        chosen = open_backbone(rest, device) if rest else backbone
        if chosen is None:
            raise InputError("teacher 'prototypes': expected prototypes:BACKBONE")
        return TokenTeacher(chosen, spec)
    if kind in ("clip", "open_clip") and rest:
        from geoseg_ros.backbones import clip

        opened = clip.from_transformers if kind == "clip" else clip.from_open_clip
        return opened(rest, spec, device)
    if kind == "onnx" and rest:
        from geoseg_ros.backbones.onnx_teacher import OnnxTeacher

        return OnnxTeacher(rest, spec)
    raise InputError(f"teacher '{spec}': expected one of {KNOWN}")


class TokenTeacher:
    """Tokens of an image backbone as a :class:`~geoseg_ros.backbones.teacher.VisionLanguageTeacher` without text."""

    text, scale, licence = False, 10.0, "that of the backbone"

    def __init__(self, backbone: ImageBackbone, name: str = "prototypes", side: int = 640) -> None:
        self._backbone, self._side, self.name = backbone, side, name
        self.dim, self.supervision = backbone.dim, backbone.supervision
        self.hash = hashlib.sha256(f"prototypes {side} {backbone.hash}".encode()).hexdigest()

    def encode_image(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """See the protocol."""
        side = max(image.shape[:2])
        return F.normalize(photo_tokens(self._backbone, image, side, self._side / side)[0], dim=-1)

    def encode_text(self, names: Sequence[str]) -> torch.Tensor:
        """See the protocol; there is no text."""
        raise InputError(f"teacher '{self.name}': knows no words; its classes have no names until geoseg name gives them some")


class ClassifierTeacher:
    """EfficientNet-Lite2's classifier of ImageNet, evaluated at every place: a stand-in that works offline, not a vision-language network.

    Features are those before the last layer; the embedding of a word is the mean of the last layer's rows of the ImageNet classes that it
    means. Both are projected on the directions in which the rows differ most.

    Args:
        device: torch device.
        side: pixels of the longer side of an image.
    """

    name, text, scale = "lite2", True, 20.0
    supervision, licence = "ImageNet image labels", "Apache-2.0"
    dim = 128

    def __init__(self, device: str | torch.device = "cpu", side: int = 480) -> None:
        weights = package_weights()
        self._trunk, self._last = Trunk(), InvertedResidual(208, 352, 3, 1, 6, 2)  # dilated as the stage before it
        fill_trunk(self._trunk, weights)
        fill_block(self._last, 20, weights)
        gain = weights["_bn1.weight"] / torch.sqrt(weights["_bn1.running_var"] + EPSILON)
        self._kernel = (weights["_conv_head.weight"].flatten(1) * gain[:, None]).to(device)
        self._bias = (weights["_bn1.bias"] - weights["_bn1.running_mean"] * gain).to(device)
        rows = weights["_fc.weight"].double()
        self._rows = rows - rows.mean(dim=0)  # a constant over the classes changes no softmax
        self._axes = torch.linalg.svd(self._rows, full_matrices=False)[2][: self.dim].T.float()
        self._trunk, self._last = self._trunk.to(device).eval(), self._last.to(device).eval()
        self._device, self._side = device, side
        self.hash = hashlib.sha256(f"{PACKAGE} {VERSION} {side} {self.dim} {sorted(WORDS.items())}".encode()).hexdigest()

    @torch.no_grad()
    def encode_image(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """See the protocol."""
        small = resize(image, *working_size(image.shape[0], image.shape[1], self._side, STRIDE))
        pixels = torch.from_numpy(small).permute(2, 0, 1)[None].float().to(self._device)
        states = self._last(self._trunk(pixels)[-1])[0].permute(1, 2, 0)
        features = F.relu6(states @ self._kernel.T + self._bias).cpu()
        return F.normalize(features @ self._axes, dim=-1)

    def encode_text(self, names: Sequence[str]) -> torch.Tensor:
        """See the protocol."""
        rows = []
        for name in names:
            found = word_classes(name)
            if not found:
                close = difflib.get_close_matches(name.casefold(), WORDS, 3, 0.7)
                hint = (
                    f"; did you mean {' or '.join(close)}?" if close else f"; it knows {len(WORDS)} words, such as chair, table lamp, sofa"
                )
                raise InputError(f"teacher 'lite2': no class of ImageNet is meant by '{name[:60]}'{hint}")
            rows.append(self._rows[list(found)].mean(dim=0))
        return F.normalize(torch.stack(rows).float() @ self._axes, dim=1)
