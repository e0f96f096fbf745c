"""Which backend runs a network: the best that works here, or the one that was asked for; and the next one when it fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.runtime.engines.build import PLAN, PlanJob, run_in_child
from geoseg_ros.runtime.engines.cache import CacheEntry, Cancelled, EngineCache, engine_key
from geoseg_ros.runtime.engines.options import ORDER, TENSORRT, EngineOptions
from geoseg_ros.runtime.engines.session import EngineError, PlanError, Session
from geoseg_ros.runtime.engines.sessions_onnxruntime import PROVIDERS, OnnxRuntimeSession
from geoseg_ros.runtime.engines.sessions_tensorrt import TensorRTSession
from geoseg_ros.runtime.engines.spec import EngineSpec
from geoseg_ros.runtime.engines.trt import RTX_CAPABILITIES, load_tensorrt

Candidate = tuple[str, str]
"""Backend and device."""


class EngineSource(Protocol):
    """A network that sessions can be made of."""

    def spec(self, backend: str, ready: bool = False) -> EngineSpec:
        """The network as ``backend`` wants it, exported where it is not yet.

        Args:
            ready: only if that takes no time.

        Raises:
            InputError: it cannot be exported, or a package is absent. GeosegError: it could have been, but that failed.
        """
        ...

    def torch_session(self, device: torch.device) -> Session:
        """The network in PyTorch. Raises InputError where it is none of PyTorch's."""
        ...

    def check(self, session: Session) -> None:
        """Let a new session answer once. Raises GeosegError where it fails, or answers otherwise than the network does."""
        ...


def open_session(source: EngineSource, options: EngineOptions) -> tuple[Session, str]:
    """Open the backend that ``options`` ask for; where that does not work, and they allow it, the next one of :data:`ORDER`.

    On a machine with a GPU all that can use it comes before what runs on the processor.

    Returns:
        the session, and one line that says which it is and why.

    Raises:
        InputError: nothing that is allowed can be used here. GeosegError: it could, but failed. Cancelled: it was.
    """
    gpu = options.on_gpu()
    candidates = _candidates(options, gpu)
    if not candidates:
        raise InputError(f"backend {options.backend}: needs a CUDA device, which PyTorch does not find")
    why = [] if gpu else ["no GPU"]
    for candidate in candidates:
        try:
            session = _open(candidate, source, options)
        except Cancelled:
            raise
        except (InputError, RuntimeError) as error:  # GeosegError is a RuntimeError, and so is what PyTorch raises
            broken = not isinstance(error, InputError)
            if candidate == candidates[-1] or (broken and options.strict):
                raise
            why.append(f"{candidate[0]}: {' '.join(str(error).split())}")
            if broken:
                options.tell(f"{why[-1]}; trying the next backend")
            continue
        asked = candidate[0] == options.backend
        reason = f"{session.backend} {session.precision} ({'as asked for' if asked else '; '.join(why) or 'the first choice'})"
        others = _at_once(candidate, gpu)
        if options.strict or not others:
            return session, reason
        return FallbackSession(session, lambda: _ready(others, source), options.tell), reason
    raise AssertionError("the last candidate is returned or raises")


def _candidates(options: EngineOptions, gpu: bool) -> list[Candidate]:
    """What is tried, in order."""
    devices = (["cuda"] if gpu else []) + (["cpu"] if not gpu or options.device == "auto" else [])
    usual = [(name, device) for device in devices for name in ORDER if device == "cuda" or name not in TENSORRT]
    if options.backend == "auto":
        return usual
    asked = [candidate for candidate in usual if candidate[0] == options.backend]
    after = [] if options.strict else [c for c in usual if ORDER.index(c[0]) > ORDER.index(options.backend)]
    return asked + after


def _at_once(failed: Candidate, gpu: bool) -> list[Candidate]:
    """What can take the place of a backend that fails at run time without being built first."""
    quick = [("torch", "cuda")] if gpu else []
    quick += [("onnxruntime", "cpu"), ("torch", "cpu")]
    return quick[quick.index(failed) + 1 :] if failed in quick else quick


class FallbackSession:
    """A session that is replaced by the next best one when it fails at run time. The inputs of that run are not lost.

    Args:
        session: the first one.
        others: makes those that take its place, in order; they must take no time to open.
        tell: gets one line at each change.

    Attributes:
        trouble: that line, or empty as long as nothing has failed.
    """

    def __init__(self, session: Session, others: Callable[[], Iterator[Session]], tell: Callable[[str], None]) -> None:
        self._make_others, self._tell = others, tell
        self._others: Iterator[Session] | None = None
        self.trouble = ""
        self._use(session)

    def _use(self, session: Session) -> None:
        self._session = session
        self.backend, self.precision, self.spec = session.backend, session.precision, session.spec

    def run(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """See :meth:`geoseg_ros.runtime.engines.session.Session.run`. EngineError: no backend is left."""
        while True:
            try:
                return self._session.run(inputs)
            except EngineError as error:
                self._replace(error)

    def _replace(self, error: EngineError) -> None:
        if self._others is None:
            self._others = self._make_others()
        new = next(self._others, None)
        if new is None:
            raise error
        old = self._session
        self._use(new)
        self.trouble = f"{old.backend} failed ({' '.join(str(error).split())}); going on with {new.backend}"
        self._tell(self.trouble)
        with contextlib.suppress(GeosegError, RuntimeError):  # it has failed already
            old.close()

    def close(self) -> None:
        """Give memory back."""
        self._session.close()


def _ready(candidates: Sequence[Candidate], source: EngineSource) -> Iterator[Session]:
    """Those of the candidates that open; nothing is exported for it."""
    for candidate in candidates:
        # RuntimeError: a GPU that is gone fails in PyTorch too
        with contextlib.suppress(InputError, RuntimeError):
            yield _open(candidate, source, EngineOptions(), ready=True)


def _open(candidate: Candidate, source: EngineSource, options: EngineOptions, ready: bool = False) -> Session:
    name, device = candidate
    if name == "torch":
        return source.torch_session(torch.device(device))
    if name in TENSORRT:
        session: Session = _tensorrt(name, source, options)
    else:
        check_onnxruntime(device)  # before anything is exported for it
        session = OnnxRuntimeSession(source.spec(name, ready), device)
    try:
        source.check(session)
    except GeosegError:
        session.close()
        raise
    return session


def check_onnxruntime(device: str) -> None:
    """Raise InputError unless ONNX Runtime is installed and can use this kind of device."""
    try:
        from onnxruntime import get_available_providers
    except ImportError:
        raise InputError("the Python package onnxruntime is not installed") from None
    if PROVIDERS[device] not in get_available_providers():
        raise InputError(f"this onnxruntime has no {PROVIDERS[device]}")


def _tensorrt(flavour: str, source: EngineSource, options: EngineOptions) -> Session:
    capability = gpu_here()[1]
    if flavour == "tensorrt_rtx" and capability not in RTX_CAPABILITIES:
        raise InputError(f"no engine for compute capability {capability}")
    load_tensorrt(flavour)  # before anything is exported for it
    spec = source.spec(flavour)
    entry = build_engine(spec, flavour, options, (capability,))
    try:
        return TensorRTSession(entry.folder / PLAN, spec, flavour)
    except (PlanError, OSError):
        # whole, but the driver or the GPU refuses it, or just removed: once more, and then it is the backend that does not work
        entry = build_engine(spec, flavour, options, (capability,), rejected=entry.id)
        return TensorRTSession(entry.folder / PLAN, spec, flavour)


def gpu_here() -> tuple[str, int]:
    """Name and compute capability (such as 87) of the GPU that PyTorch uses.

    Raises:
        InputError: there is none.
    """
    if not torch.cuda.is_available():
        raise InputError("PyTorch finds no CUDA device")
    major, minor = torch.cuda.get_device_capability()
    return torch.cuda.get_device_name(), 10 * major + minor


def build_engine(
    spec: EngineSpec, flavour: str, options: EngineOptions, capabilities: Sequence[int] = (), rejected: str = ""
) -> CacheEntry:
    """The TensorRT engine of ``spec`` from the cache; a child process builds it where it is not there.

    Args:
        flavour: ``tensorrt``: for the GPU that is here. ``tensorrt_rtx``: for ``capabilities``, such as (86, 89); needs no GPU.
        rejected: id of a build that cannot be loaded.

    Raises:
        InputError: TensorRT is absent, too old, or cannot build for these. GeosegError: the build failed. Cancelled: it was.
    """
    version = load_tensorrt(flavour).__version__
    if flavour == "tensorrt":
        key = engine_key(spec, flavour, version, gpu=gpu_here())
    else:
        key = engine_key(spec, flavour, version, capabilities=tuple(capabilities))
    notes = {"source": spec.source, **({"driver": driver} if (driver := _driver()) else {})}
    job = PlanJob(spec, flavour, key.capabilities)
    return (options.cache or EngineCache(tell=options.tell)).get_or_build(
        key, lambda folder: notes | run_in_child(job, folder, options.progress, options.cancel), options.progress, options.cancel, rejected
    )


def _driver() -> str:
    """First line of what the NVIDIA driver says of itself, if there is one."""
    try:
        return Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except (OSError, IndexError):
        return ""
