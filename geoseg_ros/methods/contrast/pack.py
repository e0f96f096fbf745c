"""The concept pack: one file that the live node needs to know one concept.

A pack is a safetensors file (never a pickle). Its tensors are the reference bank and the null items; its metadata holds one JSON manifest:
format, name, backbone name and hash, configuration, a summary of the training data, the date.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from geoseg_ros.backbones.tokens import Domain
from geoseg_ros.errors import InputError
from geoseg_ros.files import write_bytes
from geoseg_ros.methods.contrast.references import References, SizePrior, ViewReferences
from geoseg_ros.projection.proposal_views import DrawnProposals

FORMAT = 2
KEY = "geoseg_pack"
VIEW_PARTS = ("own", "other", "background.0", "background.1")
SHIPPED = Path(__file__).parents[2] / "packs" / "shipped"
LARGEST = 256 << 20  # bytes; a real pack has a few MB


@dataclass(frozen=True)
class ConceptPack:
    """One concept.

    Attributes:
        name: label name.
        backbone: spec that ``open_backbone`` takes. backbone_hash: hash of that backbone.
        mean: [D], removed from every token before it is compared.
        references: the reference tokens.
        null_photos: [n, t, D], the tokens most like the concept of each photograph that does not show it, see
            :func:`~geoseg_ros.methods.contrast.references.null_scores`.
        null_views: per domain, proposals that are not the concept.
        version: first 12 hex digits of the hash of all tensors.
        info: the rest of the manifest (configuration, training summary, date).
    """

    name: str
    backbone: str
    backbone_hash: str
    mean: torch.Tensor
    references: References
    null_photos: torch.Tensor
    null_views: Mapping[Domain, DrawnProposals]
    version: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)

    def check_backbone(self, name: str, digest: str) -> None:
        """InputError unless the pack was made with this backbone."""
        if digest != self.backbone_hash:
            raise InputError(
                f"pack '{self.name}': made with backbone {self.backbone} ({self.backbone_hash[:12]}), "
                f"cannot be used with {name} ({digest[:12]})"
            )


def _tensors(pack: ConceptPack) -> dict[str, torch.Tensor]:
    references = pack.references
    tensors = {
        "mean": pack.mean.float(),
        "foreground": references.foreground.half(),
        "context": references.context.half(),
        "background.0": references.background[0].half(),
        "background.1": references.background[1].half(),
        "null.photos": pack.null_photos.half(),
    }
    for domain, views in references.views.items():
        parts = zip(VIEW_PARTS, (views.own, views.other, *views.background), strict=True)
        tensors |= {f"views.{domain.value}.{part}": tokens.half() for part, tokens in parts}
    if references.size is not None:
        tensors["size.own"], tensors["size.other"] = references.size.own.float(), references.size.other.float()
    for domain, rows in pack.null_views.items():
        tensors[f"null.views.{domain.value}"], tensors[f"null.size.{domain.value}"] = rows.tokens.half(), rows.size.float()
    return {name: tensor.contiguous() for name, tensor in sorted(tensors.items())}


def _version(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(str(tuple(tensors[name].shape)).encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def pack_version(pack: ConceptPack) -> str:
    """What :func:`save_pack` would return."""
    return _version(_tensors(pack))


def save_pack(pack: ConceptPack, path: str | os.PathLike[str]) -> str:
    """Write a pack atomically; the same pack gives the same bytes. Returns its version."""
    tensors = _tensors(pack)
    version = _version(tensors)
    manifest = {
        "format": FORMAT,
        "name": pack.name,
        "backbone": pack.backbone,
        "backbone_hash": pack.backbone_hash,
        "version": version,
        **pack.info,
    }
    write_bytes(path, save(tensors, {KEY: json.dumps(manifest, sort_keys=True)}))
    return version


def find_pack(name_or_path: str) -> Path:
    """Path of a pack: a file, or the name of one that ships with the package."""
    path = Path(name_or_path)
    if path.exists() and not path.is_dir():
        return path
    shipped = SHIPPED / f"{name_or_path}.pack"
    if shipped.exists():
        return shipped
    known = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.pack"))) or "none"
    raise InputError(f"pack '{name_or_path}': no such file, and not one of the shipped packs ({known})")


def _check_shapes(tensors: Mapping[str, torch.Tensor]) -> None:
    """ValueError unless every tensor is finite and has the shape that its name promises."""
    for key, tensor in tensors.items():
        axes = 1 if key == "mean" else 3 if key.startswith(("null.views.", "null.photos")) else 2
        last = 3 if "size." in key else tensors["mean"].numel()
        if tensor.dim() != axes or tensor.shape[-1] != last or not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{key}: expected {axes} axes, the last of {last} finite numbers, got {list(tensor.shape)}")
    for domain in Domain:
        if len(tensors[f"null.views.{domain.value}"]) != len(tensors[f"null.size.{domain.value}"]):
            raise ValueError(f"null.size.{domain.value}: expected one row for each of null.views.{domain.value}")


def load_pack(name_or_path: str | os.PathLike[str]) -> ConceptPack:
    """Read a pack.

    Raises:
        InputError: absent, damaged, newer than this reader, or not a pack at all. Nothing in the file is ever executed.
    """
    path = find_pack(os.fspath(name_or_path))
    if path.stat().st_size > LARGEST:
        raise InputError(f"{path}: {path.stat().st_size >> 20} MiB is no concept pack (at most {LARGEST >> 20} MiB expected)")
    try:
        with safe_open(path, "pt") as file:
            manifest = json.loads((file.metadata() or {})[KEY])
            if not isinstance(manifest, dict):
                raise KeyError("manifest")
            if int(manifest["format"]) < FORMAT:
                older = f"pack format {manifest['format']} is older than this version of geoseg_ros reads ({FORMAT}); train it again"
                raise InputError(f"{path}: {older}")
            if int(manifest["format"]) > FORMAT:
                newer = f"pack format {manifest['format']} is newer than this version of geoseg_ros reads ({FORMAT}); update it"
                raise InputError(f"{path}: {newer}")
            stored = {key: file.get_tensor(key) for key in file.keys()}
        if _version(stored) != manifest["version"]:
            raise InputError(f"{path}: damaged concept pack (the content does not match its version)")
        tensors = {key: value.float() for key, value in stored.items()}
        views, null_views = {}, {}
        for domain in Domain:
            if f"views.{domain.value}.own" in tensors:
                own, other, first, second = (tensors[f"views.{domain.value}.{part}"] for part in VIEW_PARTS)
                views[domain] = ViewReferences(own, other, (first, second))
            null_views[domain] = DrawnProposals(tensors[f"null.views.{domain.value}"], tensors[f"null.size.{domain.value}"])
        _check_shapes(tensors)
        size = SizePrior(tensors["size.own"], tensors["size.other"]) if "size.own" in tensors else None
        background = (tensors["background.0"], tensors["background.1"])
        references = References(tensors["foreground"], tensors["context"], background, views, size)
        head = ("format", "name", "backbone", "backbone_hash", "version")
        info = {key: value for key, value in manifest.items() if key not in head}
        name, backbone, digest, version = (manifest[key] for key in head[1:])
        if not all(isinstance(text, str) and text for text in (name, backbone, digest, version)):
            raise KeyError("manifest")
        return ConceptPack(name, backbone, digest, tensors["mean"], references, tensors["null.photos"], null_views, version, info)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a concept pack, or a damaged one ({type(error).__name__}: {error})") from None
