"""One face seen several ways: the crops to look at, and their answers as one.

A network's error on a crop and on its mirror image, or on the crop turned a little, are partly
independent; their mean errs less. docs/weights.md shows by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facerecon.geometry import CropFrame

__all__ = ["MOST_VIEWS", "View", "mean_answer", "views_round"]

_ORDER = (
    (0.0, 1.0, False),
    (0.0, 1.0, True),
    (10.0, 1.05, False),
    (-10.0, 1.05, True),
    (-10.0, 0.95, False),
    (10.0, 0.95, True),
)
"""Turn in degrees, zoom, and whether mirrored; in pairs of mirror images."""

MOST_VIEWS = len(_ORDER)


@dataclass(frozen=True)
class View:
    """A crop, or its mirror image.

    Attributes:
        frame: The crop.
        mirrored: Whether it is mirrored left to right after it was cut.
    """

    frame: CropFrame
    mirrored: bool = False

    def cut(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the network sees of a photo, (size, size, 3)."""
        crop = self.frame.warp(photo)
        return np.ascontiguousarray(crop[:, ::-1]) if self.mirrored else crop

    def to_image(self, position_map: NDArray[np.float64]) -> NDArray[np.float64]:
        """The view's position map (s, s, 3) as the photo's, in photo pixels.

        A mirrored face's map is the mirror image of the face's, as the layout is symmetric.
        """
        if self.mirrored:
            position_map = position_map[:, ::-1] * [-1.0, 1.0, 1.0]
        return self.frame.to_image(position_map)


def views_round(frame: CropFrame, count: int, symmetric: bool = True) -> list[View]:
    """The first views of a crop: itself, its mirror image, then turned ones of another size.

    Args:
        frame: The crop.
        count: How many, 1 to ``MOST_VIEWS``.
        symmetric: Whether the face layout has a mirror map; mirrored views are left out without.
    """
    usable = [view for view in _ORDER if symmetric or not view[2]]
    return [
        View(frame.varied(turn, zoom) if turn or zoom != 1 else frame, mirrored)
        for turn, zoom, mirrored in usable[:count]
    ]


def mean_answer(views: Sequence[View], position_maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the views' position maps (n, s, s, 3), in photo pixels."""
    placed = [view.to_image(answer) for view, answer in zip(views, position_maps, strict=True)]
    mean: NDArray[np.float64] = np.mean(placed, axis=0)
    return mean
