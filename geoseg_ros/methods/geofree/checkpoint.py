"""Trained networks as files: safetensors with a JSON head, written atomically; nothing in them is ever executed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from geoseg_ros.errors import InputError
from geoseg_ros.learning.checkpoint import below, read_tensors, under, write_tensors
from geoseg_ros.methods.geofree.bank import Bank
from geoseg_ros.methods.geofree.config import NetworkConfig
from geoseg_ros.methods.geofree.model import CosegNetwork
from geoseg_ros.nets.dgcnn import Dgcnn
from geoseg_ros.settings import with_values

KIND = "coseg"  # of the file
LARGEST = 1 << 30  # bytes


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
    tensors = below("network", network.state_dict())
    names = list(banks)
    for at, name in enumerate(names):
        tensors |= below(f"bank.{at}", banks[name].tensors())
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
    write_tensors(path, KIND, tensors, manifest)


def load_network(path: str | os.PathLike[str]) -> tuple[CosegNetwork, dict[str, Bank], dict[str, Any]]:
    """Read a file of :func:`save_network`.

    Returns:
        the network in evaluation mode, its banks by concept, the head (with ``backbone`` and ``backbone_hash``).

    Raises:
        InputError: absent, damaged, newer, or something else.
    """
    tensors, manifest = read_tensors(path, KIND, LARGEST)
    try:
        config = with_values(NetworkConfig(), manifest["config"])
        kind = manifest["extractor"]
        extractor = Dgcnn(int(kind["classes"]), int(kind["neighbours"]), str(kind["source"]))
        network = CosegNetwork(int(manifest["dim"]), config, extractor)
        network.load_state_dict(under("network", tensors))
        banks = {str(name): Bank.from_tensors(under(f"bank.{at}", tensors)) for at, name in enumerate(manifest["concepts"])}
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: damaged {KIND} weights ({str(error).splitlines()[0]})") from None
    return network.eval(), banks, manifest
