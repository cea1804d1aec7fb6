"""Face profiling: photos turned out of plane by the depth of their fitted head.

The idea is that of 300W-LP (Zhu et al., CVPR 2016): large poses are rare, but a photo with a
fitted face model can be turned. Here the photo is a grid of small triangles; on the head they
take its depth and turn with it, round it they follow the head's outline and come to rest towards
the picture's edge. A depth buffer decides what hides what. Heads are only turned further the way
they look, so nothing that the photo did not show comes to light, except the far ends of grazing
cheeks, which are stretched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from facerecon.geometry import (
    FACE_TO_CAMERA,
    euler_from_matrix,
    matrix_from_euler,
    rasterise,
)
from facerecon.training.datasets import FaceLabels, PackedPhotos
from facerecon.training.datasets.pack import make_pack
from facerecon.training.rendering.head import HeadModel, posed_in_square, to_square
from facerecon.training.rendering.workers import made_in_order

__all__ = ["profile_photos", "turn_square", "turned_labels"]

GRID = 2
"""Pixels between the vertices of the picture's mesh."""

CENTRE = (0.0, 1.0, -2.0)
"""The point that heads are turned about, canonical centimetres: between the ears."""


def turn_square(
    square: NDArray[np.uint8],
    head: NDArray[np.float64],
    triangles: NDArray[np.int64],
    turn: NDArray[np.float64],
    centre: NDArray[np.float64],
) -> NDArray[np.uint8]:
    """Turn the head in a square photo.

    Args:
        square: (s, s, 3) RGB.
        head: (v, 3) the fitted head in the square's pixels, z into the scene.
        triangles: (t, 3) of the head.
        turn: (3, 3) rotation in the camera's frame.
        centre: (3,) the fixed point, the square's pixels.

    Returns:
        (s, s, 3) RGB; its background is carried along and stays put at the edges.
    """
    size = square.shape[0]
    count = -(-(size - 1) // GRID) + 1
    step = (size - 1) / (count - 1)
    on_grid = head / step
    raster = rasterise(on_grid, triangles, count, count)
    mask, holes = _head_mask(raster.covered)
    depth = raster.interpolate(head[:, 2:])[..., 0]
    face_size = float(np.ptp(head[:, 1]))
    depth = _fill(depth, raster.covered, mask) + holes * 0.02 * face_size
    # ears stand off the head: without their thin edges the mesh does not tear into spikes
    smooth = cv2.medianBlur(depth.astype(np.float32), 5).astype(np.float64)
    depth = np.where(ndimage.binary_erosion(mask, iterations=3), smooth, depth)

    line = np.arange(count) * step
    source = np.stack(np.broadcast_arrays(line[None, :], line[:, None], depth), -1)
    turned = (source - centre) @ turn.T + centre
    moved = _carried_along(turned[..., :2] - source[..., :2], mask, size, step)
    behind = float(turned[..., 2][mask].max(initial=0.0)) + face_size
    mesh = np.concatenate(
        [source[..., :2] + moved, np.where(mask, turned[..., 2], behind)[..., None]], -1
    )
    seen = rasterise(mesh.reshape(-1, 3), _grid_triangles(count), size, size)
    where = seen.interpolate(source[..., :2].reshape(-1, 2)).astype(np.float32)
    return np.asarray(
        cv2.remap(
            square, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ),
        dtype=np.uint8,
    )


def _head_mask(covered: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The head without the holes of eyes and mouth, and those holes."""
    filled = np.asarray(ndimage.binary_fill_holes(covered))
    return filled, filled & ~covered


def _fill(
    values: NDArray[np.float64], known: NDArray[np.bool_], wanted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Values where they are wanted but not known, from their surroundings."""
    if not (wanted & ~known).any():
        return values
    share = cv2.GaussianBlur(known.astype(np.float64), (0, 0), 3.0)
    smooth = cv2.GaussianBlur(np.where(known, values, 0.0), (0, 0), 3.0)
    return np.where(known, values, smooth / np.maximum(share, 1e-6))


def _carried_along(
    displacement: NDArray[np.float64], mask: NDArray[np.bool_], size: int, step: float
) -> NDArray[np.float64]:
    """The head's displacement, continued into the background and fading out to the edges."""
    distance, nearest = ndimage.distance_transform_edt(~mask, return_indices=True)
    outline = displacement[nearest[0], nearest[1]]
    smooth = cv2.GaussianBlur(outline, (0, 0), 3.0)
    along = np.where(distance[..., None] < 1.5, outline, smooth)
    line = np.arange(len(mask)) * step
    edge = np.minimum(line, size - 1 - line)
    to_edge = np.minimum(edge[:, None], edge[None, :])
    away = distance * step
    fade = to_edge / np.maximum(to_edge + away, 1e-9)  # 1 on the outline, 0 on the edge
    fade = fade * fade * (3 - 2 * fade)
    free = np.minimum(to_edge / (0.04 * size), 1.0)  # the edge itself never moves
    carried: NDArray[np.float64] = (
        np.where(mask[..., None], displacement, along * fade[..., None])
        * (np.where(mask, 1.0, free)[..., None])
    )
    return carried


@lru_cache(maxsize=4)
def _grid_triangles(count: int) -> NDArray[np.int64]:
    index = np.arange(count * count).reshape(count, count)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    return np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, d, b), (b, d, c))])


def turned_labels(
    labels: FaceLabels, count: int, seed: int, reach: tuple[float, float] = (35.0, 90.0)
) -> tuple[NDArray[np.int64], FaceLabels]:
    """Draw which photos are turned, and how.

    Photos that look less than 45 degrees aside are turned further the way they look (either way
    below 8 degrees), to a yaw drawn evenly from ``reach``, and pitched by up to 12 degrees.

    Args:
        labels: The photos' faces.
        count: How many turned photos to draw.
        seed: Of the draw.
        reach: Smallest and largest |yaw| afterwards, degrees.

    Returns:
        (count,) source rows, and the turned faces' labels.
    """
    rng = np.random.default_rng(seed)
    usable = np.flatnonzero(labels.good & (labels.split == "train") & (np.abs(labels.yaw) < 45))
    rows = rng.choice(usable, count, replace=count > len(usable))
    part = labels.take(rows)
    size, pitch_by = rng.uniform(*reach, count), rng.uniform(-12, 12, count)
    rotation, yaw = part.rotation.astype(np.float64), np.empty(count, np.float32)
    for i in range(count):
        y, p, r = euler_from_matrix(rotation[i] @ FACE_TO_CAMERA)
        side = np.sign(y) if abs(y) > 8 else rng.choice([-1.0, 1.0])
        new_yaw = side * max(size[i], min(abs(y) + 12, 90.0))
        pitch = float(np.clip(p + pitch_by[i], -35, 35))
        # near profile, in-plane roll and the old pitch mix: keep the roll, soften the pitch
        rotation[i] = matrix_from_euler(new_yaw, pitch, r) @ FACE_TO_CAMERA
        yaw[i] = new_yaw
    moved = part.rotation.astype(np.float64) - rotation
    shift = part.scale[:, None] * np.einsum("nij,j->ni", moved, np.array(CENTRE))
    path = [f"{name}#turned{i}" for i, name in enumerate(part.path)]
    return rows, replace(
        part,
        path=np.array(path),
        yaw=yaw,
        rotation=rotation.astype(np.float32),
        translation=(part.translation + shift).astype(np.float32),
        hand_points=np.full_like(part.hand_points, np.nan),
        hand_count=np.zeros_like(part.hand_count),
    )


def profile_photos(
    photos: PackedPhotos,
    model: str | Path,
    cache: str | Path,
    count: int,
    seed: int = 0,
    workers: int = 1,
) -> PackedPhotos:
    """A pack of photos turned out of plane, made once.

    Args:
        photos: The packed photos they are made from.
        model: File of the ICT face model with its head.
        cache: Folder of the new pack.
        count: How many.
        seed: Of the draw.
        workers: Processes to use.

    Raises:
        DataError: The face model has no head.
    """
    rows, labels = turned_labels(photos.labels, count, seed)
    frames = photos.frames[rows]
    head = HeadModel.load(model, labels.identity.shape[1])
    size = photos.pixels.shape[1]

    def job(i: int) -> _Job:
        row = rows[i]
        return _Job(photos.pixels[row], photos.labels.take([row]), labels.take([i]), frames[i])

    def squares(start: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        return made_in_order(_turn, head, job, range(start, count), workers)

    recipe = {"kind": "profiled", "size": size, "count": count, "seed": seed, "version": 1}
    return make_pack(cache, recipe, labels, frames, size, squares, "turning photos", resumable=True)


@dataclass(frozen=True)
class _Job:
    """One photo to turn: its square, and its labels before and after."""

    square: NDArray[np.uint8]
    before: FaceLabels
    after: FaceLabels
    frame: NDArray[np.float64]


def _turn(head: HeadModel, job: _Job) -> NDArray[np.uint8]:
    before, size = job.before, job.square.shape[0]
    rotation = before.rotation[0].astype(np.float64)
    centre = before.scale[0] * rotation @ np.array(CENTRE) + before.translation[0]
    turn = job.after.rotation[0].astype(np.float64) @ rotation.T
    posed = posed_in_square(head, before, job.frame, size)
    return turn_square(job.square, posed, head.triangles, turn, to_square(centre, job.frame, size))
