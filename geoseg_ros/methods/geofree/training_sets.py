"""Training sets, and the control experiments that a gain by the other modality must be compared with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch

from geoseg_ros.errors import InputError
from geoseg_ros.methods.geofree.config import FitConfig
from geoseg_ros.methods.geofree.inputs import ImageTokens, PreparedCloud
from geoseg_ros.nets.dgcnn import Dgcnn


@dataclass(frozen=True)
class TrainingSet:
    """Training set of one concept.

    Attributes:
        name: name of the concept.
        clouds: clouds prepared with the network's number of points.
        images: tokens of unpaired images.
        without_clouds, without_images: items that do not show the concept; used for presence scores, not for training.
    """

    name: str
    clouds: Sequence[PreparedCloud]
    images: ImageTokens
    without_clouds: Sequence[PreparedCloud] = ()
    without_images: ImageTokens | None = None


def check_sets(sets: Sequence[TrainingSet], config: FitConfig) -> None:
    """Raise InputError if a set cannot be trained on."""
    if not sets:
        raise InputError("sets: expected at least one")
    names = [s.name for s in sets]
    if len(set(names)) < len(names):
        raise InputError(f"sets: expected different names, got {', '.join(names)}")
    points, network = config.network.sampler.points, config.network
    for s in sets:
        if network.gcsf.points == "views" and any(c.view_tokens is None for c in s.clouds):
            raise InputError(f"set {s.name}: clouds: gcsf.points = views expected the tokens of the points in views")
        if network.mgcm.signal == "contrast" and s.images.evidence is None:
            raise InputError(f"set {s.name}: images: mgcm.signal = {network.mgcm.signal} expected evidence of their patches")
        if len(s.clouds) < 2:
            raise InputError(f"set {s.name}: expected at least 2 clouds, got {len(s.clouds)}")
        if len(s.images) == 0:
            raise InputError(f"set {s.name}: expected at least 1 image")
        if s.images.tokens.shape[2] != sets[0].images.tokens.shape[2] or s.images.grid != sets[0].images.grid:
            raise InputError(f"set {s.name}: images: expected the tokens of one backbone on one grid")
        wrong = next((c for c in s.clouds if len(c.points) != points), None)
        if wrong is not None:
            raise InputError(f"set {s.name}: clouds: expected {points} points each, got {len(wrong.points)}")


def apply_control(sets: Sequence[TrainingSet], config: FitConfig) -> tuple[list[TrainingSet], FitConfig]:
    """Change the sets and the settings for the control experiment ``config.control``. The returned settings have no control.

    Raises:
        InputError: the control mixes sets, and there is only one.
    """
    done = replace(config, control="none")
    if config.control == "none":
        return list(sets), config
    if config.control == "cloud_only":
        network = config.network
        alone = replace(network, sfe=replace(network.sfe, fused=False), loss=replace(network.loss, sem=0.0, obj=0.0))
        return list(sets), replace(done, network=alone)
    if len(sets) < 2:
        raise InputError(f"control {config.control}: expected at least 2 sets, got {len(sets)}")
    if config.control == "permuted":
        return [replace(s, images=sets[(k + 1) % len(sets)].images) for k, s in enumerate(sets)], done
    evidence, against = ([getattr(s.images, name) for s in sets] for name in ("evidence", "against"))
    mixed = ImageTokens(
        torch.cat([s.images.tokens for s in sets]),
        torch.cat([s.images.cls for s in sets]),
        torch.cat([s.images.saliency for s in sets]),
        sets[0].images.grid,
        None if any(x is None for x in evidence) else torch.cat(evidence),
        None if any(x is None for x in against) else torch.cat(against),
    )
    return [replace(s, images=mixed) for s in sets], done


def digest(sets: Sequence[TrainingSet], config: FitConfig, extractor: Dgcnn) -> str:
    """Hexadecimal SHA-256 of everything that a training depends on, except time limit and device."""
    found = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())

    def add(values: torch.Tensor) -> None:
        found.update(str(tuple(values.shape)).encode() + values.detach().cpu().contiguous().numpy().tobytes())

    for s in sets:
        found.update(s.name.encode())
        for cloud in s.clouds:
            add(torch.from_numpy(cloud.points))
            if cloud.view_tokens is not None:
                add(torch.from_numpy(cloud.view_tokens))
        images = s.images
        for tensor in (images.tokens, images.cls, images.saliency, images.evidence, images.against):
            if tensor is not None:
                add(tensor)
    for value in extractor.state_dict().values():
        add(value)
    return found.hexdigest()
