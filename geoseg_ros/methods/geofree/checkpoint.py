"""Trained networks as files: safetensors with one JSON manifest, written atomically; nothing in them is ever executed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from geoseg_ros.errors import InputError
from geoseg_ros.files import write_bytes
from geoseg_ros.methods.geofree.bank import Bank
from geoseg_ros.methods.geofree.config import NetworkConfig
from geoseg_ros.methods.geofree.model import CosegNetwork
from geoseg_ros.nets.dgcnn import Dgcnn
from geoseg_ros.settings import with_values

FORMAT = 1
KEY = "geoseg_network"
NETWORK, EXTRACTOR = "coseg", "dgcnn"
LARGEST = 1 << 30  # bytes


def save_extractor(path: str | os.PathLike[str], network: Dgcnn, info: Mapping[str, object] | None = None) -> None:
    """Write a DGCNN; ``info`` (plain JSON values) is kept beside it."""
    manifest = {"classes": network.classes, "neighbours": network.neighbours, "source": network.source, "info": dict(info or {})}
    _write(path, EXTRACTOR, _state(network), manifest)


def load_extractor(path: str | os.PathLike[str]) -> Dgcnn:
    """Read a file of :func:`save_extractor`. Raises InputError where it is absent, damaged, newer, or something else."""
    tensors, manifest = _read(path, EXTRACTOR)
    try:
        network = Dgcnn(int(manifest["classes"]), int(manifest["neighbours"]), str(manifest["source"]))
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: damaged {EXTRACTOR} weights ({str(error).splitlines()[0]})") from None
    return network.eval()


def save_network(
    path: str | os.PathLike[str], network: CosegNetwork, banks: Mapping[str, Bank], backbone: tuple[str, str], info: Mapping[str, object]
) -> None:
    """Write a trained network with its banks.

    Args:
        path: of the file.
        network: any device. banks: by name of the concept.
        backbone: spec and hash of the image backbone whose tokens it was trained on.
        info: plain JSON values: how it was trained.
    """
    tensors = {f"network.{name}": value for name, value in _state(network).items()}
    names = list(banks)
    for at, name in enumerate(names):
        tensors |= {f"bank.{at}.{key}": value for key, value in banks[name].tensors().items()}
    extractor = network.extractor
    manifest = {
        "config": asdict(network.config),
        "dim": network.dim,
        "extractor": {"classes": extractor.classes, "neighbours": extractor.neighbours, "source": extractor.source},
        "backbone": backbone[0],
        "backbone_hash": backbone[1],
        "concepts": names,
        "info": dict(info),
    }
    _write(path, NETWORK, tensors, manifest)


def load_network(path: str | os.PathLike[str]) -> tuple[CosegNetwork, dict[str, Bank], dict[str, Any]]:
    """Read a file of :func:`save_network`.

    Returns:
        the network in evaluation mode, its banks by concept, the manifest (with ``backbone`` and ``backbone_hash``).

    Raises:
        InputError: absent, damaged, newer, or something else.
    """
    tensors, manifest = _read(path, NETWORK)
    try:
        config = with_values(NetworkConfig(), manifest["config"])
        kind = manifest["extractor"]
        extractor = Dgcnn(int(kind["classes"]), int(kind["neighbours"]), str(kind["source"]))
        network = CosegNetwork(int(manifest["dim"]), config, extractor)
        network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
        banks = {}
        for at, name in enumerate(manifest["concepts"]):
            prefix = f"bank.{at}."
            banks[str(name)] = Bank.from_tensors({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: damaged {NETWORK} weights ({str(error).splitlines()[0]})") from None
    return network.eval(), banks, manifest


def _state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}


def _write(path: str | os.PathLike[str], kind: str, tensors: Mapping[str, torch.Tensor], manifest: Mapping[str, object]) -> None:
    text = json.dumps({"format": FORMAT, "kind": kind, **manifest}, sort_keys=True)
    write_bytes(path, save(dict(sorted(tensors.items())), {KEY: text}))


def _read(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected {kind} weights (.safetensors)")
    if file.stat().st_size > LARGEST:
        raise InputError(f"{file}: {file.stat().st_size >> 20} MiB, expected at most {LARGEST >> 20} MiB")
    try:
        with safe_open(file, "pt") as archive:
            manifest = json.loads((archive.metadata() or {})[KEY])
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}
        found, version = str(manifest["kind"]), int(manifest["format"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not {kind} weights, or damaged ones ({type(error).__name__})") from None
    if version > FORMAT:
        raise InputError(f"{file}: format {version} is newer than this version of geoseg_ros reads ({FORMAT}); update it")
    if found != kind:
        raise InputError(f"{file}: expected {kind} weights, got {found} weights")
    return tensors, manifest
