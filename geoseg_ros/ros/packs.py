"""Concept packs for the node: looked at quickly when they are named, opened in a thread of their own."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.contrast.pack import load_pack
from geoseg_ros.results import CloudResult, ImageResult, LabelSpace
from geoseg_ros.runtime.engines.cache import EngineCache
from geoseg_ros.runtime.engines.options import EngineOptions
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.pipeline import PipelineConfig, open_pipeline


class Pipeline(Protocol):
    """What the node needs of ``geoseg_ros.runtime.pipeline.CosegPipeline``."""

    labels: LabelSpace
    backbone_name: str
    backend: str
    pack_versions: list[str]
    config: PipelineConfig

    def process_image(self, image: NDArray[np.uint8]) -> ImageResult: ...

    def process_cloud(self, cloud: Cloud) -> CloudResult: ...


class PackOpener:
    """Makes the pipeline that the parameters ask for. A backbone that is still in use is shared, not opened again.

    Args:
        cancel: when set, an engine that is being built is given up.
        tell: gets a line for the log, from the thread that opens or the one that uses the pipeline.

    Attributes:
        progress: what is being built, in words with a percentage; empty while nothing is.
    """

    def __init__(self, cancel: threading.Event | None = None, tell: Callable[[str], Any] = lambda line: None) -> None:
        self.progress = ""
        self._cancel, self._tell = cancel, tell
        self._backbone: Callable[[], Any] = lambda: None

    def __call__(self, parameters: NodeParameters) -> Pipeline:
        import cv2
        import torch

        # on a busy machine threads that wait for one another cost far more than they bring, so some cores are left to others
        threads = parameters.threads or max(1, (os.cpu_count() or 1) // 2)
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        engines = EngineOptions(
            parameters.backend,
            parameters.backend_strict,
            parameters.device,
            parameters.engine_precision,
            EngineCache(parameters.engine_cache or None, tell=self._tell),
            self._show,
            self._cancel,
            self._tell,
        )
        try:
            pipeline = open_pipeline(
                parameters.packs, parameters.backbone, parameters.device, parameters.pipeline, self._backbone(), engines
            )
        finally:
            self.progress = ""
        self._backbone = weakref.ref(pipeline.backbone)
        return pipeline

    def _show(self, phase: str, share: float) -> None:
        if not self.progress.startswith(f"engine: {phase}"):
            self._tell(f"engine: {phase}; this takes a while, once")
        self.progress = f"engine: {phase} {100 * share:.0f} %" if share else f"engine: {phase}"


def check_packs(packs: Sequence[str]) -> tuple[str, ...]:
    """Read the packs and return the names of their concepts.

    Raises:
        InputError: none given, one cannot be read, two have one name, or they were made with different backbones.
    """
    loaded = [load_pack(pack) for pack in packs]
    if not loaded:
        raise InputError("expected at least one concept pack")
    names = tuple(pack.name for pack in loaded)
    if len(set(names)) < len(names):
        raise InputError(f"names must differ, got {', '.join(names)}")
    for pack in loaded[1:]:
        pack.check_backbone(loaded[0].backbone, loaded[0].backbone_hash)
    return names


class Opening(threading.Thread):
    """Opens a pipeline.

    Attributes:
        parameters: what it is opened for.
        pipeline, failure: one of them is set when it is finished.
        finished: ``done`` is called next.
    """

    def __init__(self, factory: Callable[[NodeParameters], Pipeline], parameters: NodeParameters, done: Callable[[], None]) -> None:
        super().__init__(name="opening", daemon=True)
        self.parameters = parameters
        self.pipeline: Pipeline | None = None
        self.failure: Exception | None = None
        self.finished = False
        self._factory, self._done = factory, done

    def run(self) -> None:
        try:
            self.pipeline = self._factory(self.parameters)
        except Exception as error:  # told by whoever waits for the pipeline
            self.failure = error
        self.finished = True
        self._done()


def free_memory() -> None:
    """Give back what a pipeline that is no longer referenced has held, on the GPU too."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
