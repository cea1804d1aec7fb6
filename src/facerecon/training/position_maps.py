"""The face network's task: crops of photos in, position maps out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facerecon.checkpoint import Checkpoint, resolve
from facerecon.evaluation.metrics import YAW_BINS, mean_of_bins, point_errors, yaw_bin
from facerecon.network import FaceNetwork, NetworkConfig
from facerecon.training.augment import apply_photo_draw, cut_crops, draw_crops, draw_photos, rows_of
from facerecon.training.config import TrainConfig
from facerecon.training.datasets import PhotoPool
from facerecon.training.growing import grow_from
from facerecon.training.journal import contact_sheet
from facerecon.training.losses import ssim_loss, weighted_l1, weighted_l2
from facerecon.training.sources import Sources, chances
from facerecon.training.targets import CropDraw, TargetMaker
from facerecon.uv import UVCodec

__all__ = ["PositionMapTask"]


class PositionMapTask:
    """Position maps and landmarks of fitted faces.

    Args:
        config: The run.
        sources: The photos.
        device: Where batches are made.

    Attributes:
        network: The network to train.
        seen_before: Samples that its starting weights have seen.
    """

    def __init__(self, config: TrainConfig, sources: Sources, device: torch.device) -> None:
        self.config, self.device = config, device
        self.pool, self.layout = sources.pool, sources.layout
        self.network = network = FaceNetwork(
            NetworkConfig.named(config.network).changed(config.shape)
        )
        self.seen_before = 0
        if config.start:
            start = Checkpoint.load(resolve(config.start))
            grow_from(network, start.network)
            self.seen_before = int(start.info.get("samples_seen", 0))
        codec = UVCodec(self.layout, network.config.map_size)
        self.targets = TargetMaker(self.pool, sources.model, codec, config.margin, device)
        rows, chance = chances(sources, config.balance, config.noise, config.max_yaw)
        self.rows, self.chance = torch.from_numpy(rows), torch.from_numpy(chance)
        self._loss = _loss(config)
        self.resident = _resident(self.pool, device)

    def batch(self, step: int, mine: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels, target maps and target landmarks of some rows of a step's batch."""
        config, device = self.config, self.device
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        size = self.network.config.input_size
        picks = torch.multinomial(self.chance, config.batch, True, generator=generator)
        crop = draw_crops(config.batch, config.turn, config.zoom, config.shift, generator)
        if not config.mirror or not self.targets.mirrors:
            crop = dataclasses.replace(crop, mirror=torch.zeros_like(crop.mirror))
        photo = draw_photos(config.batch, size, generator, config.harsh)

        rows = self.rows[picks[mine]]
        crop, photo = rows_of(crop, mine, device), rows_of(photo, mine, device)
        theta, maps, landmarks = self.targets(rows.to(device), crop)
        pixels = cut_crops(self._squares(rows), theta, crop.mirror, size)
        if config.appearance:
            pixels = apply_photo_draw(pixels, photo)
        return pixels.contiguous(memory_format=torch.channels_last), maps, landmarks

    def loss(self, predicted: Tensor, *wanted: Tensor) -> Tensor:
        """The loss of predicted position maps (n, 3, s, s)."""
        maps, landmarks = wanted
        loss = self._loss(predicted, maps, self.targets.weights)
        if self.config.landmark_loss:
            points = self.targets.sample_landmarks(predicted)
            loss = loss + self.config.landmark_loss * (points - landmarks).abs().mean()
        return loss

    def sheet(self, batch: tuple[Tensor, ...]) -> NDArray[np.uint8]:
        """The batch's crops with their landmarks."""
        pixels, _, landmarks = batch
        crops = pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        points = landmarks.cpu().numpy()
        return contact_sheet(crops, points, points, columns=6, side=192)

    def save(self, network: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Write the finished weights."""
        assert isinstance(network, FaceNetwork)
        Checkpoint(network, self.layout, self.config.margin, info).save(folder, torch.float16)

    def _still(self, network: nn.Module, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Crops as inference takes them, a network's landmarks, and the true ones."""
        part = torch.from_numpy(rows)
        draw = CropDraw.still(len(part), self.device)
        theta, _, truth = self.targets(part.to(self.device), draw)
        size = self.network.config.input_size
        pixels = cut_crops(self._squares(part), theta, draw.mirror, size)
        return pixels, self.targets.sample_landmarks(network(pixels)), truth

    def _squares(self, rows: Tensor) -> Tensor:
        """Packed squares of some rows, on the device."""
        if self.resident is not None:
            return self.resident[rows.to(self.resident.device)]
        return torch.from_numpy(self.pool.squares(rows.numpy())).to(self.device)

    def _validation_rows(self) -> NDArray[np.int64]:
        labels = self.pool.labels
        return np.flatnonzero(labels.good & (labels.split == "val"))

    @torch.no_grad()
    def picture(self, network: nn.Module, count: int = 12) -> NDArray[np.uint8]:
        """Validation photos, evenly over yaw, with their landmarks."""
        rows = self._validation_rows()
        rows = rows[np.argsort(self.pool.labels.yaw[rows], kind="stable")]
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, count).astype(int))]
        pixels, found, truth = self._still(network, rows)
        crops = pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        return contact_sheet(crops, found.cpu().numpy(), truth.cpu().numpy())

    @torch.no_grad()
    def validate(self, network: nn.Module, batch: int = 64) -> dict[str, float]:
        """68-point 2D NME in percent on the validation split, by |yaw| bin, and their mean."""
        rows = self._validation_rows()
        starts = range(0, len(rows), batch)
        parts = [self._still(network, rows[start : start + batch])[1:] for start in starts]
        found, truth = (torch.cat([p[k][:, :, :2] for p in parts]).cpu().numpy() for k in (0, 1))
        nme, bins = point_errors(found, truth), yaw_bin(self.pool.labels.yaw[rows])
        result = {}
        for k, (low, high) in enumerate(YAW_BINS):
            inside = nme[bins == k]
            result[f"nme_{low}_{high}"] = float(inside.mean()) if len(inside) else float("nan")
        return {**result, "nme": mean_of_bins(nme, bins)}


def _resident(pool: PhotoPool, device: torch.device) -> Tensor | None:
    """All packed squares on a GPU with room for them, so that a step needs nothing of the host."""
    if device.type != "cuda" or pool.bytes > torch.cuda.mem_get_info(device)[0] / 2:
        return None
    squares = torch.empty((len(pool.labels), *pool.shape), dtype=torch.uint8, device=device)
    for start in range(0, len(pool.labels), 1024):
        rows = np.arange(start, min(start + 1024, len(pool.labels)))
        squares[start : start + 1024] = torch.from_numpy(pool.squares(rows)).to(device)
    return squares


def _loss(config: TrainConfig) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if config.loss == "ssim":
        return ssim_loss
    if config.loss == "l2":
        return lambda predicted, target, weights: weighted_l2(
            predicted, target, (weights > 0).to(predicted.dtype)
        )
    plain = weighted_l1 if config.loss == "weighted_l1" else weighted_l2

    def with_depth(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        scale = predicted.new_tensor([1.0, 1.0, config.depth_weight])[:, None, None]
        return plain(predicted * scale, target * scale, weights)

    return with_depth
