"""Metrics: pure functions on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerecon.geometry import box_of_points

__all__ = ["YAW_BINS", "angle_error", "nme", "yaw_bin"]

YAW_BINS = ((0, 30), (30, 60), (60, 90))
"""AFLW2000-3D's |yaw| bins, degrees: [0, 30], (30, 60], beyond 60."""


def nme(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Normalised mean error in percent: mean distance over sqrt(width height) of the true box.

    Args:
        predicted: (n, d) points; d = 2 or 3. In 3D the mean z of each set is removed first.
        truth: (n, d) points; their x, y box normalises.
    """
    found, true = np.array(predicted, np.float64), np.array(truth, np.float64)
    if found.shape != true.shape:
        raise ValueError(f"predicted {found.shape} and truth {true.shape} differ in shape")
    box = box_of_points(true)
    if found.shape[1] == 3:
        found[:, 2] -= found[:, 2].mean()
        true[:, 2] -= true[:, 2].mean()
    distance = np.linalg.norm(found - true, axis=1).mean()
    return float(100 * distance / np.sqrt((box[2:] - box[:2]).prod()))


def yaw_bin(yaw: ArrayLike) -> NDArray[np.int64]:
    """Index into :data:`YAW_BINS` of angles in degrees."""
    return np.digitize(np.abs(np.asarray(yaw, np.float64)), [30, 60], right=True)


def angle_error(predicted: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Absolute differences of angles in degrees, the short way round."""
    difference = np.asarray(predicted, np.float64) - np.asarray(truth, np.float64)
    return np.abs((difference + 180) % 360 - 180)
