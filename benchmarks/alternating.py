"""Times of several things by turns, so that a noisy machine troubles all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray


def by_turns(
    stages: Mapping[str, Callable[[int], object]], runs: int, warm_up: int = 3
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of each stage in each round after the warm-up; stages are given its number."""
    times = {name: np.empty(warm_up + runs) for name in stages}
    for run in range(warm_up + runs):
        for name, stage in stages.items():
            start = time.perf_counter()
            stage(run)
            times[name][run] = 1000 * (time.perf_counter() - start)
    return {name: values[warm_up:] for name, values in times.items()}


def summary(values: NDArray[np.float64], unit: str, digits: int = 1) -> str:
    """Median and interquartile range."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:8.{digits}f} {unit}   IQR {low:.{digits}f} to {high:.{digits}f}"
