"""The error of a reconstructed shape after alignment, in the three readings in use.

Papers print one number under one name and compute three different things:

- ``icp``: nearest neighbours after ICP, over the outer interocular distance (PRNet, Feng et al.,
  ECCV 2018, section 4.3; the paper's Table 3);
- ``corresponding``: one closed-form similarity over corresponding points, over the outer
  interocular distance (SADRNet's released code);
- ``sparse``: ICP of every 50th vertex, over the size of the box (2DASL).

All in percent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from facerecon.evaluation.metrics import INTER_OCULAR
from facerecon.geometry import Similarity, umeyama

__all__ = [
    "align_icp",
    "reconstruction_corresponding",
    "reconstruction_icp",
    "reconstruction_sparse",
]


def align_icp(
    source: ArrayLike,
    target: ArrayLike,
    iterations: int = 100,
    tolerance: float = 1e-7,
    start: Similarity | None = None,
) -> Similarity:
    """Iterated closest points with a similarity (Besl & McKay, IEEE TPAMI 14(2), 1992).

    Args:
        source: (n, 3) points to move.
        target: (m, 3) points to move onto.
        iterations: At most this many.
        tolerance: Stop when the mean distance falls by less than this share of the target's size.
        start: First guess; the same centre and size by default.

    Returns:
        ``target_from_source``.
    """
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    extent = float(np.sqrt(((b - b.mean(0)) ** 2).sum(1).mean()))
    if start is None:
        scale = extent / float(np.sqrt(((a - a.mean(0)) ** 2).sum(1).mean()))
        start = Similarity(scale, np.eye(3), b.mean(0) - scale * a.mean(0))
    tree, best, last = cKDTree(b), start, np.inf
    for _ in range(iterations):
        distance, nearest = tree.query(best.apply(a))
        mean = float(np.mean(distance))
        if last - mean < tolerance * extent:
            break
        last = mean
        best = umeyama(a, b[nearest])
    return best


def _inter_ocular(landmarks: ArrayLike) -> float:
    points = np.asarray(landmarks, np.float64)
    left, right = INTER_OCULAR
    return float(np.linalg.norm(points[left] - points[right]))


def reconstruction_icp(predicted: ArrayLike, truth: ArrayLike, true_landmarks: ArrayLike) -> float:
    """Mean distance to the nearest true vertex after ICP, over the interocular distance, percent.

    Args:
        predicted: (n, 3) vertices.
        truth: (m, 3) vertices, as dense as they are; need not correspond.
        true_landmarks: (68, 3), for the outer interocular distance.
    """
    a, b = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    moved = align_icp(a, b).apply(a)
    distance = np.asarray(cKDTree(b).query(moved)[0])
    return float(100 * distance.mean() / _inter_ocular(true_landmarks))


def reconstruction_corresponding(
    predicted: ArrayLike, truth: ArrayLike, true_landmarks: ArrayLike
) -> float:
    """Mean distance of corresponding points after one similarity, over the interocular distance."""
    a, b = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    distance = np.linalg.norm(umeyama(a, b).apply(a) - b, axis=1)
    return float(100 * distance.mean() / _inter_ocular(true_landmarks))


def reconstruction_sparse(predicted: ArrayLike, truth: ArrayLike, every: int = 50) -> float:
    """Mean nearest-neighbour distance of every 50th vertex after ICP, over sqrt(w h) of the box."""
    a = np.asarray(predicted, np.float64)[::every]
    b = np.asarray(truth, np.float64)
    moved = align_icp(a, b).apply(a)
    distance = np.asarray(cKDTree(b).query(moved)[0])
    box: NDArray[np.float64] = np.ptp(b[:, :2], axis=0)
    return float(100 * distance.mean() / np.sqrt(box.prod()))
