"""Opening of the pipeline for the node's parameters, if needed in a separate thread."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from geoseg_ros.runtime.engines.options import EngineOptions
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.pipeline import PipelineConfig, open_pipeline
from geoseg_ros.runtime.stream_step import Pipeline


class OpenedPipeline(Pipeline, Protocol):
    """A pipeline of packs. ``config`` may be replaced between two messages."""

    backbone_name: str
    pack_versions: list[str]
    config: PipelineConfig

    @property
    def backend(self) -> str:
        """What runs the backbone."""
        ...


class PipelineOpener:
    """Opens the pipeline for the node's parameters. A backbone that is still in use is shared, not opened again.

    Args:
        cancel: when set, the building of an engine is cancelled.
        log: called with lines for the user, by the thread that opens or uses the pipeline.

    Attributes:
        progress: text such as "engine: building 43 %"; empty while nothing is built.
    """

    def __init__(self, cancel: threading.Event | None = None, log: Callable[[str], Any] = lambda line: None) -> None:
        self.progress = ""
        self._cancel, self._log = cancel, log
        self._backbone: Callable[[], Any] = lambda: None

    def __call__(self, parameters: NodeParameters) -> OpenedPipeline:
        import cv2
        import torch

        # on a busy machine, threads that wait for each other are slower than fewer threads, so some cores are left free
        cores = os.cpu_count() or 1
        threads = parameters.threads or max(min(2, cores), cores // 2)
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        engines = EngineOptions(
            parameters.backend,
            parameters.backend_strict,
            parameters.device,
            parameters.engine_precision,
            parameters.engine_cache or None,
            self._show,
            self._cancel,
            self._log,
        )
        try:
            pipeline = open_pipeline(
                parameters.packs,
                parameters.backbone,
                parameters.device,
                parameters.pipeline,
                self._backbone(),
                engines,
                parameters.encoder,
            )
        finally:
            self.progress = ""
        pipeline.warm()  # not at the first message
        self._backbone = weakref.ref(pipeline.backbone)
        return pipeline

    def _show(self, phase: str, done: int, total: int) -> None:
        if not self.progress.startswith(f"engine: {phase}"):
            self._log(f"engine: {phase}; this takes a while, once")
        self.progress = f"engine: {phase} {100 * done / total:.0f} %" if done else f"engine: {phase}"


class Opening(threading.Thread):
    """Opens a pipeline.

    Attributes:
        parameters: what it is opened for.
        pipeline, failure: one of them is set when it is finished.
        finished: ``done`` is called next.
    """

    def __init__(self, factory: Callable[[NodeParameters], OpenedPipeline], parameters: NodeParameters, done: Callable[[], None]) -> None:
        super().__init__(name="opening", daemon=True)
        self.parameters = parameters
        self.pipeline: OpenedPipeline | None = None
        self.failure: Exception | None = None
        self.finished = False
        self._factory, self._done = factory, done

    def run(self) -> None:
        try:
            self.pipeline = self._factory(self.parameters)
        except Exception as error:  # reported by whoever waits for the pipeline
            self.failure = error
        self.finished = True
        self._done()


def free_memory() -> None:
    """Release the memory of pipelines that are no longer referenced, also on the GPU."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
