"""One process or several that learn together, started by ``torchrun``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mimo.errors import EngineUnavailable, TrainingError
from mimo.learning.recipe import Device

# The first process checks every picture while the others wait for it.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class World:
    """This process, its device and its peers. Every method but :meth:`wrap` does nothing when it is alone."""

    device: torch.device
    rank: int = 0
    size: int = 1
    control: dist.ProcessGroup | None = None
    """For what concerns the host alone: over gloo, so that no GPU has to stop and wait for it."""

    @property
    def writer(self) -> bool:
        """Whether this is the one process that writes files and reports."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every process' ``values``, which are float64 on the CPU and are overwritten."""
        if self.size > 1:
            dist.all_reduce(values, group=self.control)
        return values

    def highest(self, value: int) -> int:
        """The largest of every process' ``value``."""
        if self.size == 1:
            return value
        agreed = torch.tensor(value)
        dist.all_reduce(agreed, dist.ReduceOp.MAX, group=self.control)
        return int(agreed)

    def gather(self, value: Any) -> list[Any]:
        """Every process' ``value``, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier(group=self.control)

    def wrap(self, network: nn.Module) -> nn.Module:
        """``network`` with its gradients averaged over the processes as they are computed; weights become rank 0's."""
        if self.size == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=devices, gradient_as_bucket_view=True)


@contextmanager
def join(device: Device) -> Iterator[World]:
    """The world that ``torchrun`` describes in the environment; without it, this process alone.

    Gradients travel over nccl between GPUs and over gloo between CPUs. Raises
    :class:`~mimo.errors.EngineUnavailable` when ``device`` is not here, :class:`~mimo.errors.TrainingError` when the
    environment speaks of several processes that nobody launched. The connections are closed at the end.
    """
    size, rank, local_rank = (_number(name, default) for name, default in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0)))
    if size > 1 and (missing := [name for name in _LAUNCHER if name not in os.environ]):
        raise TrainingError(
            f"WORLD_SIZE is {size}, but {' and '.join(missing)} of a launcher are not set: start with "
            "torchrun --nproc-per-node N -m mimo train ..., or unset WORLD_SIZE to train in one process."
        )
    if not 0 <= rank < max(size, 1):
        raise TrainingError(f"RANK is {rank}, of WORLD_SIZE {size}: start with torchrun, or unset both.")
    chosen = _device(device, local_rank)
    if size == 1:
        yield World(chosen)
        return
    try:
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
            dist.init_process_group("nccl", timeout=_PATIENCE, device_id=chosen)
            control = dist.new_group(backend="gloo", timeout=_PATIENCE)
        else:
            dist.init_process_group("gloo", timeout=_PATIENCE)
            control = dist.group.WORLD
    except (ValueError, RuntimeError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise TrainingError(
            f"the {size} processes did not find each other at {place} ({str(error).splitlines()[0]:.120}): start with torchrun."
        ) from error
    try:
        yield World(chosen, rank, size, control)
    finally:
        # After the loss of a worker there is nobody left to say goodbye to.
        with suppress(RuntimeError):
            dist.destroy_process_group()


_LAUNCHER = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def is_launched() -> bool:
    """Whether a launcher such as ``torchrun`` started this process and others."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and "MASTER_ADDR" in os.environ


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise TrainingError(
            f"{name} in the environment must be a whole number, got {text!r:.40}: unset it, or start with torchrun."
        )
    return int(text)


def is_loss_of_worker(error: BaseException) -> bool:
    """Whether ``error`` is what torch raises in the processes that are left when one of them is gone."""
    if isinstance(error, dist.DistError):
        return True
    # gloo has no type of its own for this.
    return isinstance(error, RuntimeError) and any(
        sign in str(error) for sign in ("gloo", "Gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    )


def _device(device: Device, local_rank: int) -> torch.device:
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if not torch.cuda.is_available() or local_rank >= count:
        raise EngineUnavailable(
            f"process {local_rank + 1} of this machine has no GPU of its own, PyTorch sees {count}: "
            "start fewer processes (--nproc-per-node), or train with --device cpu."
        )
    return torch.device("cuda", local_rank)
