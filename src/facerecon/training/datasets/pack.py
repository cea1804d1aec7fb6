"""The packed cache: every photo cut to one size round its face, in one memory-mapped file.

Training then needs no decoder and no per-photo work: a batch is an index into one array, and
crops, turns and colours are batched torch operations on the training device.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facerecon.errors import DataError
from facerecon.geometry import CropFrame, box_of_points
from facerecon.training.datasets.ict import (
    FaceLabels,
    MorphableModel,
    read_labels,
    read_photos,
)
from facerecon.uv import UVLayout

__all__ = ["PACK_MARGIN", "PackedPhotos", "pack"]

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


def pack(folder: str | Path, cache: str | Path, layout: UVLayout, size: int = 224) -> PackedPhotos:
    """Cut all photos of a data folder into a cache, or open the cache if it is there already.

    Args:
        folder: Data folder, see :mod:`facerecon.training.datasets.ict`.
        cache: Folder for the cache; about ``3 size^2`` bytes a photo.
        layout: The face layout.
        size: Side of the packed squares, pixels.

    Raises:
        DataError: Data are missing or damaged.
    """
    labels = read_labels(folder)
    model = MorphableModel.load(
        Path(folder) / "ict_face.npz", layout, identities=labels.identity.shape[1]
    )
    target = Path(cache)
    target.mkdir(parents=True, exist_ok=True)
    points = landmarks_in_photo(labels, model, layout)
    boxes = np.stack([box_of_points(p) for p in points])
    frames = np.column_stack(
        [
            (boxes[:, 0] + boxes[:, 2]) / 2,
            (boxes[:, 1] + boxes[:, 3]) / 2,
            PACK_MARGIN * (boxes[:, 2:] - boxes[:, :2]).max(1),
        ]
    )
    digest = hashlib.sha256(frames.tobytes() + "\n".join(labels.path).encode()).hexdigest()
    identity = {"size": size, "margin": PACK_MARGIN, "digest": digest}
    description, pixels_file = target / "pack.json", target / "photos.npy"
    if not (description.exists() and json.loads(description.read_text()) == identity):
        shape = (len(labels), size, size, 3)
        description.unlink(missing_ok=True)
        unfinished = target / "photos.partial.npy"
        pixels = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
        photos = read_photos(folder, labels.path)
        for row, photo in tqdm(photos, total=len(labels), desc="packing photos", unit="photo"):
            x, y, side = frames[row]
            pixels[row] = CropFrame(x, y, side, size).warp(photo)
        pixels.flush()
        del pixels
        os.replace(unfinished, pixels_file)
        description.write_text(json.dumps(identity))
    opened = np.load(pixels_file, mmap_mode="r", allow_pickle=False)
    if opened.shape[0] != len(labels):
        raise DataError(f"{pixels_file} holds {opened.shape[0]} photos, {len(labels)} are labelled")
    return PackedPhotos(opened, frames, labels)
