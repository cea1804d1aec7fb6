"""How good weights are on the photos of a data folder's split, by source and by yaw.

The split ``val`` is for choosing checkpoints; ``train`` beside it tells whether a network is too
small for its data or has learnt them by heart.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facerecon.errors import ConfigError, DataError
from facerecon.evaluation.annotations import annotation_distance
from facerecon.evaluation.metrics import YAW_BINS, mean_of_bins, point_errors, yaw_bin
from facerecon.geometry import CropFrame, box_of_points
from facerecon.reconstructor import FaceReconstructor
from facerecon.training.datasets import (
    FaceLabels,
    read_labels,
    read_layout,
    read_photos,
)
from facerecon.training.datasets.pack import fitted_landmarks
from facerecon.training.journal import contact_sheet

__all__ = ["Validation", "photos_of_split", "validate", "worst_photos"]


@dataclass(frozen=True)
class Validation:
    """Errors on a split, percent of the box of the fitted 68 points.

    Attributes:
        split: Its name.
        path: (n,) member name of each photo.
        source: (n,) data set of each photo.
        yaw: (n,) degrees.
        fitted: (n,) 68-point 2D NME against the fitted face models.
        hand: (n,) mean distance to the hand-made points that have a counterpart; NaN without any.
        found: (n, 68, 3) the landmarks found, photo pixels.
        truth: (n, 68, 3) the fitted ones.
    """

    split: str
    path: NDArray[np.str_]
    source: NDArray[np.str_]
    yaw: NDArray[np.float32]
    fitted: NDArray[np.float64]
    hand: NDArray[np.float64]
    found: NDArray[np.float64] = field(repr=False)
    truth: NDArray[np.float64] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Means by source and yaw bin."""
        result: dict[str, Any] = {}
        for name in ("all", *np.unique(self.source).tolist()):
            mine = np.full(len(self.yaw), True) if name == "all" else self.source == name
            bins = yaw_bin(self.yaw[mine])
            result[name] = {"photos": np.bincount(bins, minlength=len(YAW_BINS)).tolist()}
            for kind in ("fitted", "hand"):
                errors = getattr(self, kind)[mine]
                means = [_mean(errors[bins == k]) for k in range(len(YAW_BINS))]
                whole = mean_of_bins(errors, bins)
                result[name][kind] = {
                    "bins": means,
                    "mean_of_bins": None if np.isnan(whole) else whole,
                    "mean_of_samples": _mean(errors),
                }
        return result

    def to_text(self) -> str:
        """A table."""
        head = f"{'':20}{'photos':>16}{'[0,30]':>8}{'(30,60]':>9}{'>60':>7}{'bins':>7}{'mean':>7}"
        lines = [
            f"split {self.split!r}, mean distance in percent of the fitted points' box",
            head,
        ]
        for name, values in self.to_dict().items():
            count = "/".join(map(str, values["photos"]))
            for kind in ("fitted", "hand"):
                v = values[kind]
                numbers = [*v["bins"], v["mean_of_bins"], v["mean_of_samples"]]
                cells = ["-" if n is None else f"{n:.2f}" for n in numbers]
                widths = (8, 9, 7, 7, 7)
                row = "".join(c.rjust(w) for c, w in zip(cells, widths, strict=True))
                lines.append(f"{name + ', ' + kind:20}{count:>16}{row}")
        return "\n".join(lines)


def _mean(errors: NDArray[np.float64]) -> float | None:
    known = errors[np.isfinite(errors)]
    return float(known.mean()) if len(known) else None


def photos_of_split(
    data: str | Path, split: str = "val", count: int | None = None
) -> tuple[FaceLabels, NDArray[np.float64]]:
    """The good rows of a data folder's split, and their 68 fitted points (n, 68, 3).

    Args:
        data: A data folder.
        split: Its split.
        count: So many of them at most, evenly over the folder's order.

    Raises:
        ConfigError: ``count`` is below 1.
        DataError: Data are missing or damaged, or nothing is in that split.
    """
    if count is not None and count < 1:
        raise ConfigError(f"count is {count}; 1 or more is needed")
    layout, labels = read_layout(data), read_labels(data)
    rows = np.flatnonzero(labels.good & (labels.split == split))
    if not len(rows):
        raise DataError(f"{data} has no good photo with split {split!r}")
    if count is not None and count < len(rows):
        rows = rows[np.linspace(0, len(rows) - 1, count).astype(int)]
    labels = labels.take(rows)
    return labels, fitted_landmarks(data, labels, layout)


def validate(
    reconstructor: FaceReconstructor,
    data: str | Path,
    batch: int = 32,
    split: str = "val",
    count: int | None = None,
) -> Validation:
    """Measure weights on the good photos of a split, with the true boxes.

    Args:
        reconstructor: What is measured.
        data: A data folder.
        batch: Photos at once.
        split: The data folder's split.
        count: So many photos at most, evenly over the folder's order.

    Raises:
        ConfigError: ``count`` is below 1.
        DataError: Data are missing or damaged, or nothing is in the split.
    """
    labels, truth = photos_of_split(data, split, count)
    found = np.full_like(truth, np.nan)
    waiting: list[tuple[int, NDArray[np.uint8]]] = []

    def answer() -> None:
        photos = [photo for _, photo in waiting]
        boxes = [box_of_points(truth[i]) for i, _ in waiting]
        for (i, _), face in zip(
            waiting, reconstructor.reconstruct_batch(photos, boxes), strict=True
        ):
            if face is not None:  # with boxes given there always is one
                found[i] = face.landmarks
        waiting.clear()

    bar = tqdm(total=len(labels), desc="validation", unit="photo", file=sys.stderr)
    for i, photo in read_photos(data, labels.path):
        waiting.append((i, photo))
        bar.update()
        if len(waiting) == batch:
            answer()
    if waiting:
        answer()
    bar.close()
    hand = np.array(
        [
            _hand_error(found[i, :, :2], labels.hand_points[i], int(labels.hand_count[i]), truth[i])
            for i in range(len(labels))
        ]
    )
    fitted = point_errors(found[:, :, :2], truth[:, :, :2])
    return Validation(split, labels.path, labels.source, labels.yaw, fitted, hand, found, truth)


def worst_photos(report: Validation, data: str | Path, count: int = 50) -> NDArray[np.uint8]:
    """A sheet of the photos with the largest errors against the fits, worst first.

    Args:
        report: Of :func:`validate`.
        data: The same data folder.
        count: How many.

    Returns:
        RGB picture: the fitted points in red under the answer in green.
    """
    worst = np.argsort(-report.fitted, kind="stable")[:count]
    size, crops = 224, {}
    shape = (len(worst), 68, 3)
    found, truth = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for k, photo in read_photos(data, report.path[worst]):
        row = worst[k]
        frame = CropFrame.from_box(box_of_points(report.truth[row]), 1.6, size)
        crops[k] = frame.warp(photo)
        found[k], truth[k] = (frame.to_normalised(p[row]) for p in (report.found, report.truth))
    tiles = np.stack([crops[k] for k in range(len(worst))])
    return contact_sheet(tiles, found, truth, columns=10, side=size)


def _hand_error(
    found: NDArray[np.float64],
    hand: NDArray[np.float32],
    count: int,
    truth: NDArray[np.float64],
) -> float:
    """Mean distance to one photo's hand-made points, percent of the fitted points' box."""
    if count not in (68, 30, 21):
        return float("nan")
    distance = annotation_distance(found, hand[:count].astype(np.float64))
    box = np.ptp(truth[:, :2], axis=0)
    return float(100 * distance / np.sqrt(box.prod()))
