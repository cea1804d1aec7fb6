"""One process or several: the same loop runs in both.

Several processes are started from outside (``accelerate launch`` or ``torchrun``) and joined by
Hugging Face Accelerate. Each takes its part of every batch; gradients and batch statistics are
averaged over all of them, so several processes do what one would do with the whole batch.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, distributed, nn

from facerecon.errors import MissingDependency

__all__ = ["Processes", "SyncedBatchNorm2d"]


class Processes:
    """This process among all of the run's.

    Attributes:
        rank: Number of this process.
        count: How many there are.
        device: Where this one trains.
    """

    def __init__(self, device: str) -> None:
        self.rank, self.count, self.device = 0, 1, torch.device(device)
        self._accelerator: Any = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                from accelerate import Accelerator
            except ImportError as error:
                raise MissingDependency(
                    "training in several processes needs Accelerate: pip install facerecon[train]"
                ) from error
            self._accelerator = Accelerator(cpu=self.device.type == "cpu")
            self.rank = self._accelerator.process_index
            self.count = self._accelerator.num_processes
            self.device = self._accelerator.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def synced(self, network: nn.Module) -> None:
        """Let batch normalisation see the whole batch."""
        if self.count > 1:
            for module in network.modules():
                for name, child in module.named_children():
                    if type(child) is nn.BatchNorm2d:
                        setattr(module, name, SyncedBatchNorm2d.like(child))

    def wrapped(self, network: nn.Module) -> nn.Module:
        """The network whose backward pass averages gradients over all processes."""
        if self._accelerator is None:
            return network
        wrapped: nn.Module = self._accelerator.prepare_model(network)
        return wrapped

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a number over all processes."""
        if self._accelerator is None:
            return value
        reduced: Tensor = self._accelerator.reduce(value, reduction="mean")
        return reduced

    def wait(self) -> None:
        """Until all processes are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes, on any device.

    ``torch.nn.SyncBatchNorm`` does this on GPUs only. Every process must hold equally many samples.
    """

    @classmethod
    def like(cls, other: nn.BatchNorm2d) -> SyncedBatchNorm2d:
        """A copy with the other's own parameters and buffers."""
        synced = cls(other.num_features, other.eps, other.momentum)
        synced.weight, synced.bias = other.weight, other.bias
        synced.running_mean, synced.running_var = other.running_mean, other.running_var
        synced.num_batches_tracked = other.num_batches_tracked
        return synced

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the base class's name
        """Normalise (n, c, h, w)."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        world = distributed.get_world_size()
        moments = torch.stack([x.mean((0, 2, 3)), (x * x).mean((0, 2, 3))])
        summed: Tensor = _Sum.apply(moments)  # type: ignore[no-untyped-call]
        mean, square = summed / world
        variance = square - mean * mean
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None
            count = world * x.numel() // x.shape[1]
            momentum = self.momentum or 0.1
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(input.dtype)
