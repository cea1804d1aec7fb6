"""What a run trains: the engine knows no more of it than this."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facerecon.training.config import TrainConfig

__all__ = ["Task", "open_task"]


class Task(Protocol):
    """A network, its batches, its loss and how it is validated.

    Attributes:
        network: The network to train.
        seen_before: Samples that its starting weights have seen.
    """

    @property
    def network(self) -> nn.Module:  # noqa: D102
        ...

    @property
    def seen_before(self) -> int:  # noqa: D102
        ...

    def batch(self, step: int, mine: slice) -> tuple[Tensor, ...]:
        """Some rows of a step's batch: pixels, then what the loss needs besides."""

    def loss(self, predicted: Tensor, *wanted: Tensor) -> Tensor:
        """The loss of a network's float32 answers to a batch's pixels."""

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Numbers by which a network of this kind is judged."""

    def picture(self, network: nn.Module) -> NDArray[np.uint8]:
        """An RGB picture of what a network answers."""

    def sheet(self, batch: tuple[Tensor, ...]) -> NDArray[np.uint8]:
        """An RGB picture of a batch: what the network sees, and what it should answer."""

    def save(self, network: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Write finished weights, ready for inference."""


def open_task(
    config: TrainConfig,
    folders: Sequence[tuple[Path, float]],
    cache: Path,
    workers: int,
    device: torch.device,
) -> Task:
    """The task of a configuration; packs that are missing are made.

    Args:
        config: The run.
        folders: Data folders and their weights relative to each other.
        cache: Folder of the packs.
        workers: Processes for making packs.
        device: Where the network trains.
    """
    if config.network == "detector":
        from facerecon.training.detection.task import DetectorTask

        return DetectorTask.opened(config, folders, cache, device)
    from facerecon.training.position_maps import PositionMapTask
    from facerecon.training.sources import open_sources

    return PositionMapTask(config, open_sources(config, folders, cache, workers), device)
