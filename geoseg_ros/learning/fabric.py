"""Device, precision and processes of a training (Lightning Fabric, imported when a training begins)."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Literal

from geoseg_ros.errors import GeosegError, InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision = Literal["32-true", "bf16-mixed"]


def first_process() -> bool:
    """Whether this is the first or only process of those that ``torchrun`` started: the one that writes and prints."""
    return os.environ.get("RANK", "0") == "0"


def open_fabric(device: str = "cpu", processes: int = 1, precision: Precision = "32-true") -> Fabric:
    """Open the device and the processes that a training runs on.

    Below ``torchrun`` every process that it started takes part, over gloo on processors and NCCL on GPUs, and the returned object is ready.
    With ``processes`` above 1 they are started by ``open_fabric(...).launch(work, *arguments)``, which calls ``work(fabric, *arguments)``
    in each of them and returns the result of the first. Gradients are averaged over the processes; statistics of batch normalisation are
    each process's own, and those of the first are kept.

    Args:
        device: "cpu", "cuda", "cuda:1", or "auto": a GPU where there is one.
        processes: on this machine. On GPUs each takes its own.
        precision: of the forward pass; the weights are float32 either way.

    Raises:
        InputError: a device that is not there. GeosegError: Lightning Fabric is not installed.
    """
    import torch

    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise InputError(f"device: expected auto, cpu, cuda or cuda:<number>, got '{device}'")
    needed = int(number) + 1 if number else processes
    if kind == "cuda" and torch.cuda.device_count() < needed:
        raise InputError(f"device {device}: expected {needed} GPUs, PyTorch finds {torch.cuda.device_count()}")
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments import LightningEnvironment
    except ImportError as error:
        raise GeosegError(f"training needs the package lightning-fabric ({error})") from None
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        local, world = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
        fabric = Fabric(accelerator=kind, devices=local, num_nodes=world // local, strategy="ddp", precision=precision)
        fabric.launch()
        return fabric
    if processes > 1:
        return Fabric(accelerator=kind, devices=processes, strategy="ddp_spawn", precision=precision)
    devices = [int(number)] if number and kind == "cuda" else 1
    # named, so that the variables of a cluster's scheduler do not make one process wait for others
    return Fabric(accelerator=kind, devices=devices, precision=precision, plugins=[LightningEnvironment()])
