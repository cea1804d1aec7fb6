"""The packed cache: every photo cut to one size round its face, in one memory-mapped file.

Training then needs no decoder and no per-photo work: a batch is an index into one array, and
crops, turns and colours are batched torch operations on the training device.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facerecon.errors import DataError
from facerecon.geometry import CropFrame
from facerecon.training.datasets.labels import (
    BadData,
    FaceLabels,
    MorphableModel,
    model_file,
    read_labels,
    read_photos,
    skip_or_refuse,
)
from facerecon.uv import UVLayout

__all__ = [
    "PACK_MARGIN",
    "PackedPhotos",
    "PhotoPool",
    "fitted_landmarks",
    "landmarks_in_photo",
    "make_pack",
    "pack",
    "squares_round",
]

PROGRESS_EVERY = 256
"""Squares between two notes of how far an interrupted pack had come."""

PACK_MARGIN = 2.4
"""Side of a packed square as a multiple of the larger side of the 68 points' box: room for the
crop's margin, its scaling, shifts and turns; beyond it the edge is repeated."""


@dataclass(frozen=True)
class PackedPhotos:
    """Packed photos and where each square lay in its photo.

    Attributes:
        pixels: (n, size, size, 3) uint8 RGB, memory-mapped.
        frames: (n, 3) centre x, centre y and side of each square, photo pixels.
        labels: The faces, row by row.
    """

    pixels: NDArray[np.uint8]
    frames: NDArray[np.float64]
    labels: FaceLabels

    def frame(self, row: int) -> CropFrame:
        """The square of one row."""
        x, y, side = self.frames[row].tolist()
        return CropFrame(x, y, side, self.pixels.shape[1])


def landmarks_in_photo(
    labels: FaceLabels, model: MorphableModel, layout: UVLayout
) -> NDArray[np.float64]:
    """(n, 68, 3) fitted landmarks in photo pixels."""
    basis = layout.landmarks_of(model.basis)
    coefficients = np.concatenate([labels.identity, labels.expression], 1)
    points = layout.landmarks_of(model.mean) + np.tensordot(coefficients, basis, 1)
    turned = np.einsum("nij,npj->npi", labels.rotation, points)
    moved: NDArray[np.float64] = (
        labels.scale[:, None, None] * turned + labels.translation[:, None, :]
    )
    return moved


def fitted_landmarks(
    folder: str | Path, labels: FaceLabels, layout: UVLayout
) -> NDArray[np.float64]:
    """(n, 68, 3) fitted landmarks of a data folder's labels, with its face model, photo pixels.

    Raises:
        DataError: The face model is missing or damaged.
    """
    model = MorphableModel.load(model_file(folder), layout, labels.identity.shape[1])
    return landmarks_in_photo(labels, model, layout)


def squares_round(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre x, centre y and side (n, 3) of the squares packed round landmarks (n, 68, 3)."""
    low, high = points[:, :, :2].min(1), points[:, :, :2].max(1)
    return np.column_stack([(low + high) / 2, PACK_MARGIN * (high - low).max(1)])


class PhotoPool:
    """Several packs as one: rows are numbered through, pack after pack.

    Attributes:
        labels: The faces of all packs.
        frames: (n, 3) their squares.
        part: (n,) which pack each row belongs to.
    """

    def __init__(self, packs: Sequence[PackedPhotos]) -> None:
        sizes = {p.pixels.shape[1] for p in packs}
        if len(sizes) != 1:
            raise DataError(f"packs of one size are needed, these have {sorted(sizes)} pixels")
        widths = {(p.labels.identity.shape[1], p.labels.expression.shape[1]) for p in packs}
        if len(widths) != 1:
            raise DataError(f"the packs were fitted with different face models: {sorted(widths)}")
        self._pixels = [p.pixels for p in packs]
        self.labels = FaceLabels.concatenate([p.labels for p in packs])
        self.frames = np.concatenate([p.frames for p in packs])
        counts = [len(p.labels) for p in packs]
        self.part = np.repeat(np.arange(len(packs)), counts)
        self._start = np.cumsum([0, *counts])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one square: (size, size, 3)."""
        size = self._pixels[0].shape[1]
        return size, size, 3

    @property
    def bytes(self) -> int:
        """Size of all squares."""
        return sum(pixels.nbytes for pixels in self._pixels)

    def squares(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Packed squares (n, size, size, 3) of some rows."""
        out = np.empty((len(rows), *self.shape), np.uint8)
        part = self.part[rows]
        for k in np.unique(part):
            mine = part == k
            out[mine] = self._pixels[k][rows[mine] - self._start[k]]
        return out


def pack(
    folder: str | Path,
    cache: str | Path,
    layout: UVLayout,
    size: int = 224,
    bad: BadData = "refuse",
) -> PackedPhotos:
    """Cut all photos of a data folder into a cache, or open the cache if it is there already.

    Args:
        folder: Data folder, see :mod:`facerecon.training.datasets.labels`.
        cache: Folder for the cache; about ``3 size^2`` bytes a photo.
        layout: The face layout.
        size: Side of the packed squares, pixels.
        bad: What to do about bad labels, unreadable photos, and faces whose landmarks lie mostly
            outside their photo.

    Raises:
        DataError: Data are missing or damaged.
    """
    labels = read_labels(folder, bad)
    points = fitted_landmarks(folder, labels, layout)
    frames = squares_round(points)

    def squares(start: int) -> Iterable[tuple[int, NDArray[np.uint8] | None]]:
        del start  # archives are read from their beginning
        missing = set(np.flatnonzero(labels.good).tolist())
        for row, photo in read_photos(folder, labels.path, bad):
            missing.discard(row)
            limit = np.array(photo.shape[1::-1]) - 1
            inside = ((points[row, :, :2] >= 0) & (points[row, :, :2] <= limit)).all(1)
            if labels.good[row] and inside.mean() < 0.5:
                skip_or_refuse(
                    bad, f"{labels.path[row]}: {68 - inside.sum()} of 68 points lie outside it"
                )
                yield row, None
            x, y, side = frames[row].tolist()
            yield row, CropFrame(x, y, side, size).warp(photo)
        yield from ((row, None) for row in sorted(missing))

    recipe = {"size": size, "margin": PACK_MARGIN}
    return make_pack(cache, recipe, labels, frames, size, squares, "packing photos")


def make_pack(
    cache: str | Path,
    recipe: Mapping[str, float | int | str],
    labels: FaceLabels,
    frames: NDArray[np.float64],
    size: int,
    squares: Callable[[int], Iterable[tuple[int, NDArray[np.uint8] | None]]],
    title: str,
    resumable: bool = False,
) -> PackedPhotos:
    """Fill a pack's file, or open it when it was made by the same recipe from the same labels.

    Args:
        cache: Folder of the pack, made when missing.
        recipe: All that decides the pixels besides the labels.
        labels: The faces.
        frames: (n, 3) their squares.
        size: Side of the squares, pixels.
        squares: Given the first row to make, yields row and square, or None for one that cannot
            be used: its row is marked as not good.
        title: Of the progress bar.
        resumable: Rows are made in order, so that an interrupted run goes on where it stopped.
    """
    target = Path(cache)
    target.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(frames.tobytes() + "\n".join(labels.path).encode()).hexdigest()
    identity = {**recipe, "digest": digest}
    description, pixels_file = target / "pack.json", target / "photos.npy"
    unfinished, progress = target / "photos.partial.npy", target / "progress.json"
    known = _read_json(description)
    skipped: list[int] = known.pop("skipped", [])
    if known != identity:
        begun = _read_json(progress)
        done, skipped = begun.pop("done", 0), begun.pop("skipped", [])
        shape = (len(labels), size, size, 3)
        if begun == identity and unfinished.exists() and resumable:
            pixels = np.lib.format.open_memmap(unfinished, "r+")
        else:
            done, skipped = 0, []
            pixels = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
        description.unlink(missing_ok=True)
        bar = tqdm(squares(done), initial=done, total=len(labels), desc=title, unit="photo")
        for count, (row, square) in enumerate(bar, done + 1):
            if square is None:
                skipped.append(row)
            else:
                pixels[row] = square
            if resumable and count % PROGRESS_EVERY == 0:
                pixels.flush()
                _write_json(progress, {**identity, "done": count, "skipped": skipped})
        pixels.flush()
        del pixels
        os.replace(unfinished, pixels_file)
        progress.unlink(missing_ok=True)
        _write_json(description, {**identity, "skipped": skipped})
    opened = np.load(pixels_file, mmap_mode="r", allow_pickle=False)
    if opened.shape[0] != len(labels):
        raise DataError(f"{pixels_file} holds {opened.shape[0]} photos, {len(labels)} are labelled")
    if skipped:
        good = labels.good.copy()
        good[skipped] = False
        labels = replace(labels, good=good)
    return PackedPhotos(opened, frames, labels)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):  # missing, or cut off in writing: made anew
        return {}
    return values


def _write_json(path: Path, values: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".partial")
    unfinished.write_text(json.dumps(values))
    os.replace(unfinished, path)
