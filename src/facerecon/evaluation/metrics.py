"""Metrics: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "INTER_OCULAR",
    "YAW_BINS",
    "angle_error",
    "balanced_draw",
    "bootstrap_interval",
    "cumulative_curve",
    "mean_of_bins",
    "nme",
    "point_errors",
    "yaw_bin",
]

YAW_BINS = ((0, 30), (30, 60), (60, 90))
"""AFLW2000-3D's |yaw| bins, degrees: [0, 30], (30, 60], beyond 60."""

INTER_OCULAR = (36, 45)
"""The outer eye corners among the 68 points."""


def point_errors(predicted: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Mean distance of each sample's points over sqrt(width height) of the true box, percent.

    Args:
        predicted: (n, k, d) points; d = 2 or 3. In 3D each set's mean z is removed first.
        truth: (n, k, d) points; their x, y box normalises. Points that are NaN do not count.

    Returns:
        (n,), NaN where a prediction is.
    """
    found, true = np.array(predicted, np.float64), np.array(truth, np.float64)
    if found.shape != true.shape or found.ndim != 3:
        raise ValueError(f"predicted {found.shape} and truth {true.shape} are not both (n, k, d)")
    known = np.isfinite(true).all(2)
    box = np.nanmax(true[:, :, :2], 1) - np.nanmin(true[:, :, :2], 1)
    if found.shape[2] == 3:
        count = known.sum(1, keepdims=True)
        for points in (found, true):
            mean = np.where(known, points[:, :, 2], 0).sum(1, keepdims=True) / count
            points[:, :, 2] -= mean
    distance = np.where(known, np.linalg.norm(found - true, axis=2), 0).sum(1) / known.sum(1)
    errors: NDArray[np.float64] = 100 * distance / np.sqrt(box.prod(1))
    return errors


def nme(predicted: ArrayLike, truth: ArrayLike) -> float:
    """:func:`point_errors` of one sample's (k, d) points."""
    found, true = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if found.shape != true.shape:
        raise ValueError(f"predicted {found.shape} and truth {true.shape} differ in shape")
    return float(point_errors(found[None], true[None])[0])


def yaw_bin(yaw: ArrayLike) -> NDArray[np.int64]:
    """Index into :data:`YAW_BINS` of angles in degrees."""
    return np.digitize(np.abs(np.asarray(yaw, np.float64)), [30, 60], right=True)


def mean_of_bins(errors: NDArray[np.float64], bins: NDArray[np.int64]) -> float:
    """Mean of the means of the yaw bins; failures (NaN) do not count, an empty bin makes it NaN."""
    inside = [errors[(bins == k) & np.isfinite(errors)] for k in range(len(YAW_BINS))]
    means = [float(values.mean()) if len(values) else float("nan") for values in inside]
    return float(np.mean(means))


def balanced_draw(
    bins: NDArray[np.int64], seed: int = 0, each: int | None = None
) -> NDArray[np.int64]:
    """Rows of a draw with equally many samples of every yaw bin, in order.

    With the older yaw file's bins (1306 / 462 / 232) this is AFLW2000-3D's balanced subset of
    3 x 232 = 696 samples (3DDFA's protocol); which ones others drew is not published.

    Args:
        bins: (n,) yaw bin of each sample.
        seed: Of the draw.
        each: Samples a bin; as many as the smallest bin has by default.
    """
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(bins == k) for k in range(len(YAW_BINS))]
    count = min(len(g) for g in groups) if each is None else each
    chosen = [rng.permutation(group)[:count] for group in groups]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def bootstrap_interval(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean, or of the mean of group means.

    Samples are drawn with replacement within each group (Efron & Tibshirani 1993, chapter 13).

    Args:
        values: (n,) errors; NaN do not count.
        groups: (n,) group of each; one group by default.
        draws: How many resamples.
        level: Coverage of the interval.
        seed: Of the resamples.
    """
    numbers = np.asarray(values, np.float64)
    labels = np.zeros(len(numbers), int) if groups is None else np.asarray(groups)
    keep = np.isfinite(numbers)
    numbers, labels = numbers[keep], labels[keep]
    if not len(numbers):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = []
    for group in np.unique(labels):
        inside = numbers[labels == group]
        total = np.zeros(draws)
        for start in range(0, draws, 100):  # keeps the index array small
            index = rng.integers(len(inside), size=(min(100, draws - start), len(inside)))
            total[start : start + 100] = inside[index].mean(1)
        means.append(total)
    low, high = np.percentile(np.mean(means, 0), [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def cumulative_curve(errors: ArrayLike, limits: Sequence[float]) -> NDArray[np.float64]:
    """Share of samples whose error is at most each limit; failures (NaN) count as worse."""
    numbers = np.asarray(errors, np.float64)
    known = np.sort(numbers[np.isfinite(numbers)])
    shares: NDArray[np.float64] = np.searchsorted(known, limits, side="right") / len(numbers)
    return shares


def angle_error(predicted: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Absolute differences of angles in degrees, the short way round."""
    difference = np.asarray(predicted, np.float64) - np.asarray(truth, np.float64)
    return np.abs((difference + 180) % 360 - 180)
