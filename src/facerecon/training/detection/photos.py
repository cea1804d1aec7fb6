"""Whole photos at one size, with the faces that are known in them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facerecon.detection import YuNet, overlap
from facerecon.errors import DataError
from facerecon.geometry import CropFrame, box_of_points
from facerecon.training.datasets import (
    FaceLabels,
    read_labels,
    read_layout,
    read_photos,
)
from facerecon.training.datasets.labels import BadData
from facerecon.training.datasets.pack import fitted_landmarks, make_pack

__all__ = ["WholePhotos", "whole_photos"]

SIDE = 256
"""Side of the packed photos, pixels."""


@dataclass(frozen=True)
class WholePhotos:
    """Photos scaled to fit into a square, their edges repeated beyond them.

    Attributes:
        pixels: (n, s, s, 3) RGB, memory-mapped.
        extent: (n, 2) width and height of the photo in its square, pixels.
        landmarks: (n, 68, 3) of the labelled face, pixels of the square.
        others: For each photo, (k, 4) boxes of further faces, pixels of the square.
        labels: The labels, row by row.
    """

    pixels: NDArray[np.uint8]
    extent: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    others: list[NDArray[np.float64]]
    labels: FaceLabels

    def photo(self, row: int) -> NDArray[np.uint8]:
        """The photo alone."""
        x0, y0 = self.corner(row)
        width, height = np.rint(self.extent[row]).astype(int).tolist()
        return self.pixels[row, y0 : y0 + height, x0 : x0 + width]

    def corner(self, row: int) -> tuple[int, int]:
        """Where the photo begins in its square: x, y."""
        x, y = ((self.pixels.shape[1] - self.extent[row]) / 2).round().astype(int).tolist()
        return x, y


def whole_photos(
    folder: str | Path, cache: str | Path, yunet: str | None = "", bad: BadData = "refuse"
) -> WholePhotos:
    """Pack the photos of a data folder whole, or open the pack if it is there already.

    Args:
        folder: Data folder, see :mod:`facerecon.training.datasets.labels`.
        cache: Folder for the pack.
        yunet: YuNet's file: faces that it finds besides the labelled one are noted, so that
            people in the background are not taught to be nobody. Empty: none are; None: as the
            cache has it.
        bad: What to do about bad labels and photos.

    Raises:
        DataError: Data are missing or damaged.
        DetectorUnavailable: YuNet's file is missing or no such network.
    """
    layout, labels = read_layout(folder), read_labels(folder, bad)
    points = fitted_landmarks(folder, labels, layout)
    sizes, others = _survey(Path(folder), Path(cache), labels, points, yunet, bad)
    side = sizes.max(1)
    frames = np.column_stack([(sizes - 1) / 2, side]).astype(np.float64)

    def squares(start: int) -> Iterable[tuple[int, NDArray[np.uint8] | None]]:
        del start
        for row, photo in read_photos(folder, labels.path, bad):
            x, y, extent = frames[row].tolist()
            yield row, CropFrame(x, y, extent, SIDE).warp(photo)

    packed = make_pack(
        cache, {"size": SIDE, "whole": 1}, labels, frames, SIDE, squares, "packing whole photos"
    )
    factor = (SIDE / side)[:, None]
    middle = (SIDE - 1) / 2
    moved = points.copy()
    moved[:, :, :2] -= (frames[:, :2])[:, None]
    moved *= factor[:, None]
    moved[:, :, :2] += middle
    corner = np.tile(frames[:, :2], 2)
    boxes = [(o - c) * f + middle for o, c, f in zip(others, corner, factor, strict=True)]
    return WholePhotos(packed.pixels, sizes * factor, moved, boxes, packed.labels)


def _survey(
    folder: Path,
    cache: Path,
    labels: FaceLabels,
    points: NDArray[np.float64],
    yunet: str | None,
    bad: BadData,
) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """Width and height of each photo, and the boxes of its further faces."""
    file = cache / "survey.json"
    digest = hashlib.sha256("\n".join(labels.path).encode()).hexdigest()
    if file.is_file():
        known = json.loads(file.read_text())
        if known["photos"] == digest and yunet in (None, known["yunet"]):
            others = [np.array(o, np.float64).reshape(-1, 4) for o in known["others"]]
            return np.array(known["sizes"], np.int64), others
    detector = YuNet(yunet) if yunet else None
    sizes = np.ones((len(labels), 2), np.int64)
    others = [np.empty((0, 4)) for _ in range(len(labels))]
    photos = read_photos(folder, labels.path, bad)
    bar = tqdm(photos, total=len(labels), desc="surveying", unit="photo", file=sys.stderr)
    for row, photo in bar:
        sizes[row] = photo.shape[1::-1]
        if detector is not None:
            own = box_of_points(points[row])
            found = [d.box for d in detector.detect(photo) if overlap(own, d.box)[0] < 0.2]
            others[row] = np.array(found, np.float64).reshape(-1, 4)
    if not (sizes > 1).any():
        raise DataError(f"{folder} holds no photo")
    cache.mkdir(parents=True, exist_ok=True)
    content = {
        "photos": digest,
        "yunet": yunet or "",
        "sizes": sizes.tolist(),
        "others": [o.tolist() for o in others],
    }
    unfinished = file.with_suffix(".partial")
    unfinished.write_text(json.dumps(content))
    os.replace(unfinished, file)
    return sizes, others
