"""The detector's task: scenes in, boxes and points out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facerecon.detection import overlap
from facerecon.detection.boxes import non_maximum_suppression
from facerecon.detection.network import DetectorNetwork, decode
from facerecon.detection.single_shot import load_detector, save_detector
from facerecon.errors import ConfigError, DataError
from facerecon.training.augment import apply_photo_draw, draw_photos, rows_of
from facerecon.training.config import TrainConfig
from facerecon.training.detection.losses import FACE, IGNORED, NOBODY, detection_loss
from facerecon.training.detection.photos import WholePhotos, whole_photos
from facerecon.training.detection.scenes import Scene, SceneMaker, SceneRange
from facerecon.training.sources import balanced

__all__ = ["DetectorTask", "scene_maker"]

_MOST = 32  # faces of one scene that are taught
_VALIDATION = 160  # scenes
_RED, _GREEN, _BLUE = (255, 60, 60), (60, 255, 90), (60, 60, 255)


def scene_maker(photos: WholePhotos, split: str, config: TrainConfig) -> SceneMaker:
    """Scenes of one split's photos, turned heads favoured as the configuration says.

    Raises:
        DataError: The split has no good photo.
    """
    labels = photos.labels
    rows = np.flatnonzero(labels.good & (labels.split == split))
    if not len(rows):
        raise DataError(f"there is no good photo with split {split!r}")
    chance = balanced(labels.yaw[rows], config.balance)
    limits = SceneRange(turn=config.turn)
    return SceneMaker(photos, rows, chance / chance.sum(), config.scene_size, limits)


class DetectorTask:
    """Boxes and points of the faces in composed scenes.

    Args:
        config: The run.
        photos: The photos.
        device: Where batches go.

    Attributes:
        network: The network to train.
        seen_before: Samples that its starting weights have seen.
    """

    def __init__(self, config: TrainConfig, photos: WholePhotos, device: torch.device) -> None:
        self.config, self.device = config, device
        self.network, self.seen_before = DetectorNetwork(), 0
        if config.start:
            self.network, info = load_detector(config.start)
            self.seen_before = int(info.get("samples_seen", 0))
        size = config.scene_size
        if size % 64:
            raise ConfigError(f"scene_size is {size}; a multiple of 64 is needed")
        self._cells = DetectorNetwork.cells(size, size, device)
        self._makers = {split: scene_maker(photos, split, config) for split in ("train", "val")}

    @classmethod
    def opened(
        cls,
        config: TrainConfig,
        folders: Sequence[tuple[Path, float]],
        cache: Path,
        device: torch.device,
    ) -> DetectorTask:
        """The task on a data folder.

        Raises:
            ConfigError: Several folders were given.
        """
        if len(folders) != 1:
            raise ConfigError("the detector trains on one data folder")
        photos = whole_photos(folders[0][0], cache / "whole", config.yunet, config.bad_data)
        return cls(config, photos, device)

    def batch(self, step: int, mine: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pixels, boxes, points and kinds of some rows of a step's batch."""
        config, size = self.config, self.config.scene_size
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        draw = draw_photos(config.batch, size, generator, config.harsh)
        # faces are covered while scenes are composed, where it is known how much of them is left
        draw = dataclasses.replace(draw, boxes=torch.zeros_like(draw.boxes))
        seeds = [(config.seed, step, i) for i in range(config.batch)[mine]]
        make = self._makers["train"].make
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # OpenCV runs in parallel
            scenes = list(threads.map(lambda seed: make(np.random.default_rng(seed)), seeds))
        pixels, boxes, points, kinds = _tensors(scenes)
        draw = rows_of(draw, mine, torch.device("cpu"))
        if config.appearance:
            kinds = _still_seen(boxes, kinds, draw.blur, draw.coarse, draw.coarse_size / size)
            pixels = apply_photo_draw(
                pixels.to(self.device), rows_of(draw, slice(None), self.device)
            )
        pixels = pixels.to(self.device).contiguous(memory_format=torch.channels_last)
        return pixels, boxes.to(self.device), points.to(self.device), kinds.to(self.device)

    def loss(self, predicted: Tensor, *wanted: Tensor) -> Tensor:
        """The loss of a batch's answers (n, cells, 15)."""
        return detection_loss(predicted, self._cells, *wanted)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Recall at IoU 0.5, false alarms a scene and mean IoU, on scenes of the split ``val``."""
        counts = np.zeros(5)
        shared: list[float] = []
        for scene, boxes in self._found(network, _VALIDATION):
            wanted = scene.boxes[scene.counts]
            small = np.sqrt((wanted[:, 2:] - wanted[:, :2]).prod(1)) < 24
            best = np.array([overlap(box, boxes).max(initial=0) for box in wanted])
            met = best > 0.5
            shared += best[met].tolist()
            known = [overlap(box, scene.boxes).max(initial=0) > 0.3 for box in boxes]
            alarms = len(boxes) - sum(known)
            counts += [len(wanted), met.sum(), small.sum(), (met & small).sum(), alarms]
        faces, found, tiny, tiny_found, wrong = counts.tolist()
        return {
            "recall": found / max(1, faces),
            "recall_under_24": tiny_found / max(1, tiny),
            "false_alarms": wrong / _VALIDATION,
            "iou": float(np.mean(shared)) if shared else 0.0,
        }

    def picture(self, network: nn.Module, count: int = 12) -> NDArray[np.uint8]:
        """Validation scenes: true boxes in red, ignored ones in blue, found ones in green."""
        tiles = []
        for scene, boxes in self._found(network, count):
            tile = scene.pixels.copy()
            for counts in (True, False):
                _outline(tile, scene.boxes[scene.counts == counts], _RED if counts else _BLUE)
            _outline(tile, boxes, _GREEN)
            tiles.append(tile)
        return _tiled(tiles)

    def sheet(self, batch: tuple[Tensor, ...]) -> NDArray[np.uint8]:
        """The batch's scenes: faces in red with their points, ignored ones in blue."""
        pixels, boxes, points, kinds = (tensor.cpu() for tensor in batch)
        tiles = []
        for i, scene in enumerate(pixels.round().byte().permute(0, 2, 3, 1).numpy()):
            tile = np.ascontiguousarray(scene)
            for kind, color in ((FACE, _RED), (IGNORED, _BLUE)):
                _outline(tile, boxes[i, kinds[i] == kind].numpy(), color)
            for point in points[i, kinds[i] == FACE].view(-1, 2).round().int().tolist():
                cv2.circle(tile, point, 1, _GREEN, -1)
            tiles.append(tile)
        return _tiled(tiles)

    def save(self, network: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Write the finished weights."""
        assert isinstance(network, DetectorNetwork)
        save_detector(network, folder, info)

    @torch.no_grad()
    def _found(self, network: nn.Module, count: int) -> list[tuple[Scene, NDArray[np.float64]]]:
        """Validation scenes and the boxes that a network finds in them."""
        maker, results = self._makers["val"], []
        for start in range(0, count, 16):
            numbers = range(start, min(start + 16, count))
            scenes = [maker.make(np.random.default_rng((9, i))) for i in numbers]
            pixels = _tensors(scenes)[0].to(self.device)
            logits, boxes, _ = decode(network(pixels).float(), self._cells)
            for scene, scores, there in zip(scenes, logits.cpu(), boxes.cpu(), strict=True):
                keep = scores > 0
                kept = non_maximum_suppression(there[keep], scores[keep], 0.4)
                results.append((scene, there[keep][kept].double().numpy()))
        return results


def _outline(
    tile: NDArray[np.uint8], boxes: NDArray[np.float64], color: tuple[int, int, int]
) -> None:
    for x0, y0, x1, y1 in np.rint(boxes).astype(int).tolist():
        cv2.rectangle(tile, (x0, y0), (x1, y1), color, 1)


def _tiled(tiles: list[NDArray[np.uint8]], columns: int = 4) -> NDArray[np.uint8]:
    tiles = tiles + [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return np.asarray(np.vstack(rows), np.uint8)


def _tensors(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels (n, 3, s, s), boxes (n, k, 4), points (n, k, 5, 2) and kinds (n, k)."""
    pixels = torch.from_numpy(np.stack([scene.pixels for scene in scenes])).permute(0, 3, 1, 2)
    boxes = torch.zeros(len(scenes), _MOST, 4)
    points = torch.zeros(len(scenes), _MOST, 5, 2)
    kinds = torch.full((len(scenes), _MOST), NOBODY)
    for i, scene in enumerate(scenes):
        count = min(len(scene.boxes), _MOST)
        boxes[i, :count] = torch.from_numpy(scene.boxes[:count])
        points[i, :count] = torch.from_numpy(scene.points[:count])
        seen = torch.from_numpy(scene.counts[:count])
        kinds[i, :count] = torch.where(seen, FACE, IGNORED)
    return pixels.float(), boxes, points, kinds


def _still_seen(boxes: Tensor, kinds: Tensor, blur: Tensor, coarse: Tensor, share: float) -> Tensor:
    """Kinds, where faces that a scene's blur leaves nothing of do not matter any more."""
    side = (boxes[..., 2:] - boxes[..., :2]).prod(-1).sqrt()
    gone = (blur[:, None] > 0.12 * side) | (coarse[:, None] & (side * share < 8))
    return torch.where((kinds == FACE) & gone, IGNORED, kinds)
