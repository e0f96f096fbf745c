"""CLIP (Radford et al., ICML 2021) as a dense teacher, with weights that the user has.

Dense features as in MaskCLIP (Zhou et al., ECCV 2022): in the last block every patch keeps its own value, x + out(W_v LN(x)), instead of a
mixture over patches; the perceptron of the block, the last norm and the projection follow. Words are put into prompts, whose embeddings are
averaged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from geoseg_ros.backbones.tokens import resize, working_size
from geoseg_ros.errors import InputError

MEAN, DEVIATION = (122.7709, 116.7460, 104.0938), (68.5005, 66.6322, 70.3232)  # of CLIP's pixels, RGB 0 .. 255
PROMPTS = (
    *("a photo of a {}.", "a picture of one {}.", "a photo that shows a {}.", "there is a {} in the room.", "a {} indoors."),
    *("a close view of a {}.", "a {} seen from far away.", "part of a {}.", "a blurred photo of a {}.", "a dark photo of a {}."),
    *("a large {}.", "a small {}.", "a photo of the {}.", "many pictures have a {}.", "a {} in the street."),
)
SIDE = 448  # pixels of the longer side of an image


class Tower(Protocol):
    """The image network of a CLIP, in parts. Attributes: patch: pixels per side; dim: width after the projection."""

    patch: int
    dim: int

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels [1, 3, H, W] to the input of the first block [1, 1 + h w, W], the class token first."""
        ...

    def blocks(self) -> Sequence[Callable[[torch.Tensor], torch.Tensor]]:
        """The blocks as they are."""
        ...

    def values(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The last block without mixture, and its keys [1, 1 + h w, W]."""
        ...

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Last norm and projection, [..., W] to [..., D]."""
        ...


class ClipTeacher:
    """A :class:`~geoseg_ros.backbones.teacher.VisionLanguageTeacher` around a CLIP.

    Args:
        tower: the image network.
        text_network: from prompts to embeddings [n, D].
        modules: everything that has weights, for the hash and the device.
        name: as given by the user.
        smooth: features of patches with similar keys are averaged (MaskCLIP's key smoothing).
        half: weights of half precision.
    """

    text = True

    def __init__(
        self,
        tower: Tower,
        text_network: Callable[[list[str]], torch.Tensor],
        modules: nn.Module,
        name: str,
        options: dict[str, str],
        device: str | torch.device = "cpu",
    ) -> None:
        self._half = options.get("half", "0") == "1"
        self._modules = modules.to(device, torch.float16 if self._half else torch.float32).eval().requires_grad_(False)
        self._tower, self._text, self._device = tower, text_network, device
        self._smooth = options.get("smooth", "0") == "1"
        self.name, self.dim, self.scale = name, tower.dim, 100.0
        self.supervision = options.get("supervision", "pairs of images and texts")
        self.licence = options.get("licence", "unknown: that of the weights given")
        digest = hashlib.sha256(f"clip {SIDE} {self._smooth} {PROMPTS}".encode())
        for key, value in sorted(modules.state_dict().items()):
            digest.update(key.encode() + value.float().cpu().numpy().tobytes())
        self.hash = digest.hexdigest()

    def pixels(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """[1, 3, H, W] of an image whose sides are multiples of the patch."""
        values = (image.astype(np.float32) - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
        return torch.from_numpy(values).permute(2, 0, 1)[None].to(self._device, torch.float16 if self._half else torch.float32)

    @torch.no_grad()
    def class_embedding(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embedding [1, D] of a whole image by the unmodified network."""
        x = self._tower.embed(pixels)
        for block in self._tower.blocks():
            x = block(x)
        return self._tower.project(x[:, 0])

    @torch.no_grad()
    def encode_image(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """See the protocol."""
        patch = self._tower.patch
        height, width = working_size(image.shape[0], image.shape[1], SIDE, patch)
        x = self._tower.embed(self.pixels(resize(image, height, width)))
        for block in self._tower.blocks()[:-1]:
            x = block(x)
        x, keys = self._tower.values(x)
        features = F.normalize(self._tower.project(x[:, 1:])[0].float(), dim=-1)
        if self._smooth:
            own = F.normalize(keys[0, 1:].float(), dim=-1)
            features = F.normalize((own @ own.T).clamp_min(0) @ features, dim=-1)
        return features.unflatten(0, (height // patch, width // patch)).cpu()

    @torch.no_grad()
    def encode_text(self, names: Sequence[str]) -> torch.Tensor:
        """See the protocol: the mean of the unit embeddings of all prompts, at unit length."""
        rows = [F.normalize(self._text([p.format(name) for p in PROMPTS]).float(), dim=1).mean(dim=0) for name in names]
        return F.normalize(torch.stack(rows), dim=1).cpu()


class TransformersTower:
    """:class:`Tower` of ``transformers``' CLIPModel."""

    def __init__(self, model: Any) -> None:
        self._vision, self._projection = model.vision_model, model.visual_projection
        self.patch, self.dim = int(model.config.vision_config.patch_size), int(model.config.projection_dim)

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._vision.pre_layrnorm(self._vision.embeddings(pixels, interpolate_pos_encoding=True))

    def blocks(self) -> Sequence[Callable[[torch.Tensor], torch.Tensor]]:
        return [_first_of(layer) for layer in self._vision.encoder.layers]

    def values(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        layer = self._vision.encoder.layers[-1]
        normed = layer.layer_norm1(x)
        x = x + layer.self_attn.out_proj(layer.self_attn.v_proj(normed))
        return x + layer.mlp(layer.layer_norm2(x)), layer.self_attn.k_proj(normed)

    def project(self, x: torch.Tensor) -> torch.Tensor:
        return self._projection(self._vision.post_layernorm(x))


def _first_of(layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """A layer of ``transformers`` without masks; some versions give a tuple."""

    def run(x: torch.Tensor) -> torch.Tensor:
        found = layer(x, attention_mask=None, causal_attention_mask=None) if _CAUSAL in _arguments(layer) else layer(x, attention_mask=None)
        return found[0] if isinstance(found, tuple) else found

    return run


_CAUSAL = "causal_attention_mask"


def _arguments(layer: Any) -> tuple[str, ...]:
    import inspect

    return tuple(inspect.signature(layer.forward).parameters)


class OpenClipTower:
    """:class:`Tower` of the vision transformers of ``open_clip``."""

    def __init__(self, visual: Any) -> None:
        if not all(hasattr(visual, part) for part in ("conv1", "transformer", "ln_pre", "ln_post", "proj")):
            raise InputError("open_clip: expected a vision transformer such as ViT-B-16")
        self._visual, self.patch = visual, int(visual.conv1.kernel_size[0])
        self.dim = int(visual.proj.shape[1])

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        visual = self._visual
        grid = visual.conv1(pixels)
        x = torch.cat([visual.class_embedding.to(grid).expand(1, 1, -1), grid.flatten(2).transpose(1, 2)], 1)
        table = visual.positional_embedding.to(grid)
        side, size = round((len(table) - 1) ** 0.5), (int(grid.shape[2]), int(grid.shape[3]))
        if size != (side, side):
            square = table[1:].T.unflatten(1, (side, side))[None].float()
            wide = F.interpolate(square, size, mode="bicubic", antialias=True, align_corners=False)
            table = torch.cat([table[:1], wide[0].flatten(1).T.to(grid)])
        return visual.ln_pre(x + table)

    def blocks(self) -> Sequence[Callable[[torch.Tensor], torch.Tensor]]:
        return list(self._visual.transformer.resblocks)

    def values(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        block = self._visual.transformer.resblocks[-1]
        width = x.shape[-1]
        normed, weight, bias = block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias
        key, value = (F.linear(normed, weight[k * width : (k + 1) * width], bias[k * width : (k + 1) * width]) for k in (1, 2))
        x = x + block.attn.out_proj(value)
        return x + block.mlp(block.ln_2(x)), key

    def project(self, x: torch.Tensor) -> torch.Tensor:
        return self._visual.ln_post(x) @ self._visual.proj


def _options(rest: str, name: str, known: Sequence[str]) -> tuple[str, dict[str, str]]:
    source, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(f"teacher '{name}': option '{unknown[0]}': expected one of {', '.join(known)}")
    return source, options


def from_transformers(rest: str, name: str, device: str | torch.device = "cpu") -> ClipTeacher:
    """A teacher by ``transformers``: hub name or local folder; options ``smooth=1``, ``half=1``, ``local_files_only=1``, ``supervision``
    and ``licence``, as in ``clip:FOLDER?smooth=1``.

    Raises:
        InputError: no ``transformers``, no weights, or weights of another network.
    """
    source, options = _options(rest, name, ("smooth", "half", "local_files_only", "supervision", "licence"))
    try:
        from transformers import AutoTokenizer, CLIPModel
    except ImportError as error:
        raise InputError(f"teacher '{name}': needs the Python package transformers, which is not installed") from error
    local = Path(source).is_dir() or options.get("local_files_only", "0") == "1"
    try:
        model, tokenizer = (kind.from_pretrained(source, local_files_only=local) for kind in (CLIPModel, AutoTokenizer))
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise InputError(f"teacher '{name}': weights of '{source}' cannot be loaded ({str(error).splitlines()[0][:150]})") from error
    return transformers_teacher(model, tokenizer, name, options, device)


def transformers_teacher(
    model: Any, tokenizer: Any, name: str, options: dict[str, str] | None = None, device: str | torch.device = "cpu"
) -> ClipTeacher:
    """A teacher around an open CLIPModel and its tokenizer."""

    def embeddings(prompts: list[str]) -> torch.Tensor:
        given = tokenizer(prompts, padding=True, truncation=True, return_tensors="pt").to(device)
        return model.text_projection(model.text_model(**given).pooler_output)

    return ClipTeacher(TransformersTower(model), embeddings, model, name, options or {}, device)


def from_open_clip(rest: str, name: str, device: str | torch.device = "cpu") -> ClipTeacher:
    """A teacher by ``open_clip``: name of a model; options ``weights`` (file, or tag of the package), and those of ``clip:``.

    Raises:
        InputError: no ``open_clip``, no weights, or weights of another network.
    """
    source, options = _options(rest, name, ("weights", "smooth", "half", "supervision", "licence"))
    if not options.get("weights"):
        raise InputError(f"teacher '{name}': expected open_clip:MODEL?weights=FILE")
    try:
        import open_clip
    except ImportError as error:
        raise InputError(f"teacher '{name}': needs the Python package open_clip, which is not installed") from error
    try:
        model = open_clip.create_model(source, pretrained=options["weights"])
        tokenizer = open_clip.get_tokenizer(source)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"teacher '{name}': weights cannot be loaded ({str(error).splitlines()[0][:150]})") from error
    tower = OpenClipTower(model.visual)
    return ClipTeacher(tower, lambda prompts: model.encode_text(tokenizer(prompts).to(device)), model, name, options, device)
