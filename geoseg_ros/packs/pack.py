"""Packs: the files that hold what a method has learnt.

A pack is a safetensors file (never a pickle). Its tensors are defined by the method that made it; its metadata holds one JSON manifest:
format, method, name, classes, backbone name and hash, configuration, a summary of the training data, the date.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from geoseg_ros.backbones.default import DEFAULT
from geoseg_ros.errors import InputError
from geoseg_ros.files import expanded, write_bytes

FORMAT = 3
OLDEST = 2  # packs of version 0.1: they hold one concept of the contrast and do not name their method
KEY = "geoseg_pack"
SHIPPED = Path(__file__).parent / "shipped"
LARGEST = 256 << 20  # bytes; a concept pack has a few MB
HEAD = ("format", "method", "name", "classes", "backbone", "backbone_hash", "version")


@dataclass(frozen=True)
class Pack:
    """The result of learning by a method.

    Attributes:
        name: of the pack; the label of a concept pack.
        method: name of the method, see :mod:`geoseg_ros.methods.registry`.
        backbone: name for ``open_backbone``.
        backbone_hash: of that backbone.
        tensors: of the method, as they are stored.
        classes: names of the classes of a scene pack, in the order of their ids; empty for a target.
        info: the rest of the manifest (configuration, training summary, date).
        path: the file that it was read from, or empty.
    """

    name: str
    method: str
    backbone: str
    backbone_hash: str
    tensors: Mapping[str, torch.Tensor]
    classes: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    path: str = field(default="", compare=False)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels of the pack."""
        return self.classes or (self.name,)

    @cached_property
    def version(self) -> str:
        """First 12 hex digits of the hash of all tensors."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            digest.update(name.encode())
            digest.update(str(tuple(self.tensors[name].shape)).encode())
            digest.update(self.tensors[name].contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def check_backbone(self, name: str, digest: str) -> None:
        """Raise InputError unless the pack was made with this backbone."""
        if digest != self.backbone_hash:
            raise InputError(
                f"pack '{self.name}': made with backbone {self.backbone} ({self.backbone_hash[:12]}), "
                f"cannot be used with {name} ({digest[:12]})"
            )

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write the pack atomically; the same pack gives the same bytes. Returns its version."""
        manifest = dict(self.info) | {
            "format": FORMAT,
            "method": self.method,
            "name": self.name,
            "classes": list(self.classes),
            "backbone": self.backbone,
            "backbone_hash": self.backbone_hash,
            "version": self.version,
        }
        tensors = {name: tensor.contiguous() for name, tensor in sorted(self.tensors.items())}
        write_bytes(path, save(tensors, {KEY: json.dumps(manifest, sort_keys=True)}))
        return self.version

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> Pack:
        """Read a pack.

        Args:
            name_or_path: a file, or the name of a pack that ships with the package.

        Raises:
            InputError: absent, damaged, newer than this reader, or not a pack at all. Nothing in the file is ever executed.
        """
        path = find_pack(os.fspath(name_or_path))
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: {path.stat().st_size >> 20} MiB is no pack (at most {LARGEST >> 20} MiB expected)")
        try:
            with safe_open(path, "pt") as file:
                manifest = json.loads((file.metadata() or {})[KEY])
                _check_manifest(manifest, path)
                tensors = {key: file.get_tensor(key) for key in file.keys()}
            pack = cls(
                manifest["name"],
                manifest.get("method", "contrast"),
                manifest["backbone"],
                manifest["backbone_hash"],
                tensors,
                tuple(manifest.get("classes", ())),
                {key: value for key, value in manifest.items() if key not in HEAD},
                str(path),
            )
            if not all(
                isinstance(text, str) and text for text in (pack.name, pack.method, pack.backbone, pack.backbone_hash, *pack.labels)
            ):
                raise KeyError("manifest")
            for label in pack.labels:
                check_name(label, f"{path}: name of a label")
            if pack.version != manifest["version"]:
                raise InputError(f"{path}: damaged pack (the content does not match its version)")
        except (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: not a pack, or a damaged one ({type(error).__name__}: {error})") from None
        return pack


def check_name(name: str, what: str = "name") -> None:
    """Check that ``name`` can be a label.

    Args:
        name: of a target.
        what: name of the argument or option, for the message.

    Raises:
        InputError: not 1 to 64 printable characters.
    """
    if not name.strip() or len(name) > 64 or not name.isprintable():
        raise InputError(f"{what}: expected 1 to 64 printable characters, got {name[:80]!r}")


def is_pack(path: Path) -> bool:
    """Whether a file is a pack, of any version."""
    return holds(path, KEY)


def is_bank(path: Path) -> bool:
    """Whether a file is a background bank."""
    return holds(path, "geoseg_bank")


def holds(path: Path, key: str) -> bool:
    """Whether a file is one of safetensors with this key in its metadata."""
    try:
        with safe_open(path, "pt") as file:
            return key in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def find_pack(name_or_path: str) -> Path:
    """Path of a pack: a file, or the name of one that ships with the package, such as ``stool``, ``car`` or ``geoseg_base/stool``."""
    path = Path(expanded(name_or_path))
    if path.exists() and not path.is_dir():
        return path
    if (shipped := _shipped().get(name_or_path)) is not None:
        return shipped
    if path.is_dir():
        inside = sorted(p.name for p in path.glob("*.pack"))
        raise InputError(f"pack '{name_or_path}': is a folder{', name a file of it: ' + ', '.join(inside[:5]) if inside else ''}")
    known = ", ".join(shipped_packs()) or "none"
    raise InputError(f"pack '{name_or_path}': no such file, and not one of the shipped packs ({known})")


def shipped_packs() -> list[str]:
    """Names of the packs that ship, the shortest of each; several of one name stand behind the name of their backbone, but for that of the
    default one."""
    paths: dict[Path, str] = {}
    for name, path in _shipped().items():
        paths[path] = min(paths.get(path, name), name, key=len)
    return sorted(paths.values(), key=lambda name: ("/" in name, name))


def _shipped() -> dict[str, Path]:
    """The packs that ship by each of their names: that of the file, where only one or the default backbone has it, and backbone/file."""
    names: dict[str, Path] = {}
    for path in sorted(SHIPPED.glob("*/*.pack"), key=lambda path: path.parent.name != DEFAULT):
        names.setdefault(path.stem, path)
        names[f"{path.parent.name}/{path.stem}"] = path
    return names


def _check_manifest(manifest: Any, path: Path) -> None:
    if not isinstance(manifest, dict):
        raise KeyError("manifest")
    found = int(manifest["format"])
    if found < OLDEST:
        raise InputError(f"{path}: pack format {found} is older than this version of geoseg_ros reads ({OLDEST}); train it again")
    if found > FORMAT:
        raise InputError(f"{path}: pack format {found} is newer than this version of geoseg_ros reads ({FORMAT}); update it")
