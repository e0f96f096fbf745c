"""The encoder of clouds as an ONNX file, and ONNX Runtime instead of PyTorch behind the same interface.

Exporting needs the packages onnx and onnxscript, which are optional.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros import __version__
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.files import write_bytes
from geoseg_ros.nets.base import PointBatch, PointNetwork, PreparedCloud
from geoseg_ros.nets.encoder_file import DEFAULT, TrainedEncoder, load_encoder
from geoseg_ros.nets.point_encoder import INPUTS, SIDE, PointEncoder, folded
from geoseg_ros.processes import Cancelled
from geoseg_ros.runtime.engines.cache import EngineCache, EngineKey
from geoseg_ros.runtime.engines.export import clean, exported_program, need_packages
from geoseg_ros.runtime.engines.options import EngineOptions
from geoseg_ros.runtime.engines.sessions import onnxruntime_session
from geoseg_ros.runtime.engines.spec import NamedSpec, ShapeRange

OUTPUT = "point_features"
"""Float32 [n, dim], one row per occupied voxel; the inputs are :data:`~geoseg_ros.nets.point_encoder.INPUTS`."""
USUAL_SIDE = 64  # cells


def export_encoder(encoder: PointEncoder, path: str | Path, largest: int = 131_072) -> NamedSpec:
    """Write the encoder as an ONNX file for any number of voxels, float32, its normalisations folded into the weights.

    Args:
        encoder: In any mode; it stays as it is.
        path: The file.
        largest: Voxels of a cloud that TensorRT engines are built for. The file itself takes more.

    Returns:
        What describes the file to :func:`~geoseg_ros.runtime.engines.trt.build_plan`.

    Raises:
        InputError: Absent packages.
        GeosegError: The network cannot be exported.
    """
    need_packages("onnx", "onnxscript")
    example = encoder.prepare(np.random.default_rng(0).uniform(0, 20 * encoder.voxel, (4000, 3)).astype(np.float32))
    training, encoder.training = encoder.training, False
    inputs = encoder.collate([example]).inputs
    encoder.training = training
    axes: dict[str, torch.export.Dim] = {}
    shapes = [{k: axes.setdefault(a, torch.export.Dim(a, min=2)) for k, a in enumerate(_axes(name)) if a} for name in INPUTS]
    program = exported_program(folded(encoder), inputs, INPUTS, (OUTPUT,), (*shapes[:3], tuple(shapes[3:])))
    write_bytes(path, clean(program))
    return NamedSpec(Path(path), (_profile(largest, inputs),), "fp32", "point encoder")


def _axes(name: str) -> tuple[str, ...]:
    """Names of the dynamic axes of an input, '' where one is fixed."""
    if name in ("features", "parent", "children"):
        return {"features": ("voxels", ""), "parent": ("voxels",), "children": ("coarse", "")}[name]
    kind, plane = name.split("_")
    return {
        "sample": (f"cells_{plane}", ""),
        "grid": (f"height_{plane}", f"width_{plane}"),
        "place": (f"cells_{plane}",),
        "cell": ("coarse",),
    }[kind]


def _profile(largest: int, inputs: Sequence[torch.Tensor]) -> dict[str, ShapeRange]:
    """Shapes of one cloud, from one voxel to ``largest``."""
    limits = {"voxels": (largest // 4, largest), "coarse": (largest // 16, largest // 2), "cells": (largest // 64, largest // 4)}
    limits |= dict.fromkeys(("height", "width"), (USUAL_SIDE, SIDE))

    def shape(name: str, tensor: torch.Tensor) -> ShapeRange:
        sizes = [(1, *limits[a.split("_")[0]]) if a else (s,) * 3 for a, s in zip(_axes(name), tensor.shape, strict=True)]
        minimum, optimum, maximum = zip(*sizes, strict=True)
        return ShapeRange(minimum, optimum, maximum)

    return {name: shape(name, tensor) for name, tensor in zip(INPUTS, inputs, strict=True)}


@dataclass
class OnnxPointEncoder:
    """A :class:`~geoseg_ros.nets.base.PointNetwork` that ONNX Runtime runs on the processor; it cannot be trained.

    Args:
        encoder: What the file was exported from; it still prepares and collates.
        path: The file.

    Raises:
        InputError: onnxruntime is absent, or the file cannot be read.
    """

    encoder: PointEncoder
    path: str | Path

    def __post_init__(self) -> None:
        self.dim, self.voxel = self.encoder.dim, self.encoder.voxel
        self.encoder.eval()
        self._session: Any = onnxruntime_session(self.path, "cpu")
        names = tuple(i.name for i in self._session.get_inputs())
        if names != INPUTS:
            raise InputError(f"{self.path}: not an exported point encoder (its inputs are {', '.join(names)[:80]})")

    @property
    def config(self) -> dict[str, int | float]:
        """See :class:`~geoseg_ros.nets.base.PointNetwork`."""
        return self.encoder.config

    def prepare(
        self,
        xyz: NDArray[np.float32],
        rgb: NDArray[np.uint8] | None = None,
        intensity: NDArray[np.float32] | None = None,
        normal: NDArray[np.float32] | None = None,
    ) -> PreparedCloud:
        """See :class:`~geoseg_ros.nets.base.PointNetwork`."""
        return self.encoder.prepare(xyz, rgb, intensity, normal)

    def collate(self, clouds: Sequence[PreparedCloud]) -> PointBatch:
        """See :class:`~geoseg_ros.nets.base.PointNetwork`."""
        return self.encoder.collate(clouds)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """See :meth:`~geoseg_ros.nets.point_encoder.PointEncoder.forward`; on the processor."""
        found = self._session.run((OUTPUT,), {name: tensor.cpu().numpy() for name, tensor in zip(INPUTS, inputs, strict=True)})
        return torch.from_numpy(found[0])


class CloudFeatures:
    """:class:`~geoseg_ros.projection.scene.PointFeatures` of a trained encoder.

    Attributes:
        trained: the encoder. network: what runs it, with its interface. backend: its name.
    """

    def __init__(self, trained: TrainedEncoder, network: PointNetwork | None = None, backend: str = "torch-cpu") -> None:
        self.trained, self.network, self.backend = trained, network or folded(trained.network), backend
        self.hash, self.backbone, self.background = trained.hash, trained.backbone, trained.background

    @torch.inference_mode()
    def features(self, xyz: NDArray[np.float32], rgb: NDArray[np.uint8] | None) -> NDArray[np.float32]:
        """See :class:`~geoseg_ros.projection.scene.PointFeatures`."""
        batch = self.network.collate([self.network.prepare(xyz, rgb)])
        rows = torch.nn.functional.normalize(self.network(*batch.inputs).float(), dim=1)
        return torch.where(batch.inverse[:, None] >= 0, rows[batch.inverse.clamp_min(0)], 0.0).numpy()


@cache
def shipped_features(backbone: str) -> CloudFeatures | None:
    """The encoder that ships, run by PyTorch; None where its features are tokens of another backbone than that of this hash."""
    found = open_point_features() if DEFAULT.is_file() else None
    return found if found is not None and found.backbone == backbone else None


def open_point_features(path: str | Path = "", options: EngineOptions | None = None) -> CloudFeatures:
    """Open an encoder of clouds.

    The backend ``onnxruntime`` exports it for ONNX Runtime into the engine cache; ``auto`` takes it from there, where it is. Elsewhere
    PyTorch runs it, on the processor.

    Args:
        path: of the encoder; empty: the one that ships.
        options: backend, cache, cancel and log; None: PyTorch.

    Raises:
        InputError: the encoder cannot be read, or the backend that must work does not.
    """
    trained = load_encoder(path or DEFAULT)
    if options is None or options.backend not in ("auto", "onnxruntime"):
        return CloudFeatures(trained)
    key = EngineKey("onnx", {"encoder": trained.hash, "code": _code()})
    engines = EngineCache(options.cache, log=options.log)
    if options.backend == "auto" and engines.find(key) is None:  # an export takes longer than users expect who have no LiDAR
        return CloudFeatures(trained)
    try:
        need_packages("onnxruntime")
        entry = engines.get_or_build(key, lambda folder: _exported(trained, folder), options.progress, options.cancel)
        return CloudFeatures(trained, OnnxPointEncoder(trained.network, entry.folder / _FILE), "onnxruntime-cpu")
    except Cancelled:
        raise
    except (GeosegError, InputError) as error:
        if options.strict and options.backend == "onnxruntime":
            raise
        options.log(f"encoder of clouds: {' '.join(str(error).split())}; PyTorch runs it")
        return CloudFeatures(trained)


_FILE = "points.onnx"


def _exported(trained: TrainedEncoder, folder: Path) -> dict[str, str]:
    export_encoder(trained.network, folder / _FILE)
    return {}


def _code() -> str:
    """Digest of the code that exports."""
    files = (sys.modules[name].__file__ for name in (__name__, PointEncoder.__module__))
    return hashlib.sha256(__version__.encode() + b"".join(Path(str(file)).read_bytes() for file in files)).hexdigest()
