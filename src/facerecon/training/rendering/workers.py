"""Pictures made one after the other, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["made_in_order"]

_CHUNK = 256
_State = TypeVar("_State")
_Job = TypeVar("_Job")
_held: list[Any] = []  # a worker's own copy of the state


def made_in_order(
    make: Callable[[_State, _Job], NDArray[np.uint8]],
    state: _State,
    job: Callable[[int], _Job],
    numbers: range,
    workers: int,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield each number with its picture ``make(state, job(number))``, in order.

    Args:
        make: A function that workers can import.
        state: What all pictures need; sent to each worker once.
        job: What one picture needs.
        numbers: Which pictures.
        workers: Processes; below 2 this one does the work.
    """
    if workers < 2:
        for number in numbers:
            yield number, make(state, job(number))
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _hold, (state,)) as pool:
        for start in range(0, len(numbers), _CHUNK):
            part = numbers[start : start + _CHUNK]
            pictures = pool.map(_make, [(make, job(number)) for number in part], chunksize=16)
            yield from zip(part, pictures, strict=True)


def _hold(state: Any) -> None:
    cv2.setNumThreads(1)
    _held[:] = [state]


def _make(task: tuple[Callable[[Any, Any], NDArray[np.uint8]], Any]) -> NDArray[np.uint8]:
    make, job = task
    return make(_held[0], job)
