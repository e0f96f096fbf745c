"""Vision transformers of the DINO family through the ``transformers`` package, which is optional."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from urllib.parse import parse_qsl

import torch
from torch import nn

from geoseg_ros.backbones.base import ModuleBackbone, TokenModule
from geoseg_ros.backbones.onnx import NORMALISATIONS
from geoseg_ros.errors import InputError

# short name -> model on the hub; DINO (Caron et al., ICCV 2021), DINOv2 (Oquab et al., TMLR 2024)
ALIASES: dict[str, str] = {
    "dino_vits8": "facebook/dino-vits8?supervision=self-supervised (DINO), no labels",
    "dino_vitb8": "facebook/dino-vitb8?supervision=self-supervised (DINO), no labels",
    "dinov2_vits14": "facebook/dinov2-small?supervision=self-supervised (DINOv2), no labels",
}


class HubTokens(TokenModule):
    """:class:`~geoseg_ros.backbones.base.TokenModule` around a vision transformer.

    Args:
        network: takes ``pixel_values`` [V, 3, H, W] and gives ``last_hidden_state``, the patches last.
        patch: pixels per patch side. norm: name of the mean and deviation of the pixels.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, network: nn.Module, patch: int, norm: str) -> None:
        super().__init__(network)
        self.patch = patch
        for name, value in zip(("mean", "deviation"), NORMALISATIONS[norm], strict=True):
            self.register_buffer(name, torch.tensor(value))
        # models of fixed position tables interpolate them only when asked; others have no such argument
        self._extra = {k: True for k in ("interpolate_pos_encoding",) if k in inspect.signature(network.forward).parameters}

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows, columns = images.shape[1] // self.patch, images.shape[2] // self.patch
        pixels = ((images - self.mean) / self.deviation).permute(0, 3, 1, 2).to(self.precision)
        states = self.network(pixel_values=pixels, **self._extra).last_hidden_state.float()
        patches = states[:, -rows * columns :]  # class token (and register tokens) come first
        return patches.unflatten(1, (rows, columns)), states[:, 0]


class HubBackbone(ModuleBackbone):
    """A vision transformer by hub name or local folder: final-layer normalised patch tokens, and the class token as the global vector.

    Options, as in ``hub:FOLDER?norm=symmetric``:
        norm: see :data:`geoseg_ros.backbones.onnx.NORMALISATIONS`; default ``imagenet``, as the DINO family wants.
        local_files_only: ``1`` uses only the local cache of the hub (as does the environment variable HF_HUB_OFFLINE).
        supervision: description of the labels that the network was trained with (default: unknown).

    Raises InputError without the ``transformers`` package, without the weights, or for a network that is not such a transformer.
    """

    def __init__(self, model: str, name: str, device: str | torch.device = "cpu", batch: int = 8) -> None:
        try:
            from transformers import AutoModel
        except ImportError as error:
            raise InputError(f"backbone '{name}': needs the Python package transformers, which is not installed") from error
        source, _, query = model.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        unknown = sorted(set(options) - {"norm", "local_files_only", "supervision"})
        if unknown:
            raise InputError(f"backbone '{name}': option '{unknown[0]}': expected norm, local_files_only or supervision")
        norm = options.get("norm", "imagenet")
        if norm not in NORMALISATIONS:
            raise InputError(f"backbone '{name}': norm: expected one of {', '.join(NORMALISATIONS)}, got '{norm}'")
        local = Path(source).is_dir() or options.get("local_files_only", "0") not in ("0", "")
        try:
            network = AutoModel.from_pretrained(source, local_files_only=local)
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise InputError(f"backbone '{name}': weights of '{source}' cannot be loaded ({str(error).splitlines()[0]})") from error
        patch, width = getattr(network.config, "patch_size", None), getattr(network.config, "hidden_size", None)
        if not isinstance(patch, int) or not isinstance(width, int):
            kind = network.config.model_type
            raise InputError(f"backbone '{name}': expected a vision transformer with patch_size and hidden_size, got {kind}")
        self.supervision = options.get("supervision", "unknown")
        digest = hashlib.sha256(f"{network.config.model_type} {patch} {norm}".encode())
        for key, value in sorted(network.state_dict().items()):
            if not key.startswith("pooler."):  # unused, and random where the file has none
                digest.update(key.encode() + value.float().numpy().tobytes())
        self.hash = digest.hexdigest()
        super().__init__(HubTokens(network.float(), patch, norm), name, patch, width, device, batch)
