"""What samples are drawn from: photos, turned photos and rendered heads, and how often each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facerecon.errors import ConfigError, DataError
from facerecon.training.config import TrainConfig
from facerecon.training.datasets import (
    FaceLabels,
    MorphableModel,
    PhotoPool,
    model_file,
    pack,
    read_layout,
)
from facerecon.uv import UVLayout

__all__ = ["Sources", "balanced", "chances", "open_sources", "trust"]


@dataclass(frozen=True)
class Sources:
    """Everything a run draws from.

    Attributes:
        pool: All packed photos.
        names: Name of each pack in the pool.
        shares: Share of the samples from each pack.
        model: The face model of all of them.
        layout: Their face layout.
    """

    pool: PhotoPool
    names: tuple[str, ...]
    shares: tuple[float, ...]
    model: MorphableModel
    layout: UVLayout


def open_sources(
    config: TrainConfig,
    data: Sequence[tuple[Path, float]],
    cache: Path,
    workers: int = 1,
) -> Sources:
    """Open the packs of a configuration; missing ones are made.

    Args:
        config: The run.
        data: Data folders and their weights relative to each other.
        cache: Folder of the packs.
        workers: Processes for turning photos and rendering heads.

    Raises:
        DataError: Data are missing or damaged, or the folders' face models differ.
        ConfigError: Weights are not positive.
    """
    if not data or min(weight for _, weight in data) <= 0:
        raise ConfigError("one or more data folders with positive weights are needed")
    folders = [folder for folder, _ in data]
    layout = read_layout(folders[0])
    packs, names = [], []
    models: list[MorphableModel] = []
    for k, folder in enumerate(folders):
        if read_layout(folder).digest != layout.digest:
            raise DataError(f"{folder} has another face layout than {folders[0]}")
        name = f"photos{k}" if k else "photos"
        photos = pack(folder, cache / name, layout, config.pack_size, config.bad_data)
        model = MorphableModel.load(model_file(folder), layout, photos.labels.identity.shape[1])
        if models and not np.array_equal(model.mean, models[0].mean):
            raise DataError(f"{folder} has another face model than {folders[0]}")
        models.append(model)
        packs.append(photos)
        names.append(name)
    made = {"profiled": config.profiled_share, "rendered": config.rendered_share}
    made = {name: share for name, share in made.items() if getattr(config, name)}
    weights = np.array([weight for _, weight in data])
    shares = list(weights / weights.sum() * (1 - sum(made.values())))
    if made:
        from facerecon.training.rendering import profile_photos, render_heads

        file, seed = model_file(folders[0]), config.seed
        if "profiled" in made:
            target = cache / "profiled"
            packs.append(profile_photos(packs[0], file, target, config.profiled, seed, workers))
        if "rendered" in made:
            target = cache / "rendered"
            packs.append(
                render_heads(packs[0], file, layout, target, config.rendered, seed, workers)
            )
        names += list(made)
        shares += list(made.values())
    return Sources(PhotoPool(packs), tuple(names), tuple(map(float, shares)), models[0], layout)


def chances(
    sources: Sources, balance: float, noise: float, max_yaw: float = 180.0
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The rows to train on, and how likely each is drawn.

    Args:
        sources: Everything there is.
        balance: Power of the balance over yaw, see :func:`balanced`.
        noise: See :func:`trust`.
        max_yaw: Photos that look further aside, degrees, are left out.

    Raises:
        DataError: A source has nothing to train on.
    """
    labels, part = sources.pool.labels, sources.pool.part
    usable = labels.good & (labels.split == "train")
    chance = np.zeros(len(labels))
    for k, share in enumerate(sources.shares):
        mine = usable & (part == k)
        if sources.names[k].startswith("photos"):
            mine &= np.abs(labels.yaw) <= max_yaw
        rows = np.flatnonzero(mine)
        if not len(rows):
            raise DataError(f"{sources.names[k]} holds no good photo with split 'train'")
        weight = balanced(labels.yaw[rows], balance) * trust(labels, rows, noise)
        chance[rows] = share * weight / weight.sum()
    rows = np.flatnonzero(chance)
    return rows, chance[rows]


def balanced(yaw: NDArray[np.float32], power: float) -> NDArray[np.float64]:
    """Chances of samples: (1 / how many share the 10-degree bin of |yaw|) ** power."""
    bins = np.minimum(np.abs(yaw) // 10, 8).astype(int)
    weights: NDArray[np.float64] = 1.0 / np.bincount(bins)[bins] ** power
    return weights


def trust(labels: FaceLabels, rows: NDArray[np.int64], noise: float) -> NDArray[np.float64]:
    """1 / (1 + (residual / noise)^2): half for a fit that is ``noise`` percent off its points."""
    if noise <= 0:
        return np.ones(len(rows))
    residual = np.nan_to_num(labels.residual[rows].astype(np.float64), nan=0.0)
    weights: NDArray[np.float64] = 1 / (1 + (residual / noise) ** 2)
    return weights
