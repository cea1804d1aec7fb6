"""The zero-download detector: the face network itself, looking for its own fixed points.

Cut a window, reconstruct, take the box of what came out, cut again. Round a face this settles on
the face's box, and a turned, mirrored or shifted crop gives the same landmarks; where there is no
face the answer sticks to the crop. A window is a face when several views of it agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from facerecon.detection.detector import Detection, Detector, overlap, suppress
from facerecon.geometry import CropFrame, box_of_points

__all__ = ["FixedPoint", "LandmarkNetwork"]

LandmarkNetwork = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float64]]
"""RGB crops (size, size, 3), to crop-normalised landmarks (n, 68, 3)."""

# views that a candidate is judged by: turn in degrees, zoom, shift in sides (x, y)
_VIEWS = ((0.0, 1.0, 0.0, 0.0), (20.0, 1.12, 0.05, 0.0), (-20.0, 0.92, 0.0, 0.06))
_MAX_SIDE = 640
_SMALLEST = 24.0  # side of the smallest window, photo pixels
_LEVEL_FACTOR = 1.6
_CANDIDATES = 16
_SETTLING = 2  # how often a candidate is cut out again before it is judged
_AGREEMENT = 0.035  # mean distance between views, in box sizes, at which the score is 1 / e


class FixedPoint:
    """Finds faces with the landmark network alone.

    Args:
        network: Landmarks of crops.
        size: Side of the network's crops, pixels.
        margin: Side of a crop as a multiple of the larger side of the landmarks' box.
        threshold: Lowest score.
        levels: Window sizes tried, each 1 / 1.6 of the one before, from the whole picture down.
        seeds: Another detector whose boxes are tried too.
    """

    def __init__(
        self,
        network: LandmarkNetwork,
        size: int,
        margin: float,
        *,
        threshold: float = 0.5,
        levels: int = 5,
        seeds: Detector | None = None,
    ) -> None:
        self._network, self._size, self._margin = network, size, margin
        self._threshold, self._levels, self._seeds = threshold, levels, seeds

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Faces in an RGB photo, largest first; a large photo is searched at a smaller size."""
        shrink = _MAX_SIDE / max(image.shape[:2])
        if shrink >= 1:
            return self._search(image)
        height, width = (max(1, round(extent * shrink)) for extent in image.shape[:2])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        factor = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
        return [
            Detection((found.box + 0.5) * factor - 0.5, found.score)
            for found in self._search(np.asarray(small, np.uint8))
        ]

    def _search(self, image: NDArray[np.uint8]) -> list[Detection]:
        frames = self._windows(image)
        if self._seeds is not None:
            frames += [self._frame(d.box) for d in self._seeds.detect(image)]
        if not frames:
            return []
        boxes = self._candidates(image, frames)
        for _ in range(_SETTLING):
            if not len(boxes):
                return []
            boxes = self._boxes(image, [self._frame(b) for b in boxes])
        return suppress([d for d in self._judge(image, boxes) if d.score >= self._threshold])

    def _windows(self, image: NDArray[np.uint8]) -> list[CropFrame]:
        """Squares of several sizes over the picture, half a side or less apart."""
        height, width = image.shape[:2]
        frames = []
        side = float(max(height, width))
        for _ in range(self._levels):
            if side < _SMALLEST:
                break
            places = []
            for extent in (width, height):
                inside = min(side, extent) / 2
                count = 1 + int(np.ceil(max(0.0, extent - side) / (side / 2)))
                places.append(np.linspace(inside, extent - inside, count))
            frames += [
                CropFrame(float(x), float(y), side, self._size)
                for y in places[1]
                for x in places[0]
            ]
            side /= _LEVEL_FACTOR
        return frames

    def _frame(self, box: NDArray[np.float64]) -> CropFrame:
        return CropFrame.from_box(box, self._margin, self._size)

    def _points(self, image: NDArray[np.uint8], frames: Sequence[CropFrame]) -> NDArray[np.float64]:
        """Landmarks (n, 68, 3) in photo pixels of each crop."""
        found = []
        for start in range(0, len(frames), 32):
            part = frames[start : start + 32]
            normalised = self._network([frame.warp(image) for frame in part])
            found += [f.to_image(p) for f, p in zip(part, normalised, strict=True)]
        return np.stack(found)

    def _boxes(self, image: NDArray[np.uint8], frames: Sequence[CropFrame]) -> NDArray[np.float64]:
        return np.stack([box_of_points(p) for p in self._points(image, frames)])

    def _candidates(
        self, image: NDArray[np.uint8], frames: Sequence[CropFrame]
    ) -> NDArray[np.float64]:
        """The boxes most worth a closer look.

        Where there is no face the answer sticks to its window; round a face, windows at different
        places lead to one box. So a box ranks by how much better other windows' boxes overlap
        with it than the windows themselves overlap.
        """
        boxes = self._boxes(image, frames)
        windows = np.array(
            [
                [f.centre_x - f.side / 2, f.centre_y - f.side / 2]
                + [f.centre_x + f.side / 2, f.centre_y + f.side / 2]
                for f in frames
            ]
        )
        shared = np.stack([overlap(box, boxes) for box in boxes])
        given = np.stack([overlap(window, windows) for window in windows])
        gain = (shared - given).clip(0).sum(1)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        extent = (boxes[:, 2:] - boxes[:, :2]).max(1)
        limit = [image.shape[1] - 1, image.shape[0] - 1]
        usable = (centre >= 0).all(1) & (centre <= limit).all(1)
        usable &= extent > _SMALLEST / self._margin
        kept: list[int] = []
        for i in np.argsort(-gain, kind="stable"):
            if len(kept) < _CANDIDATES and usable[i] and not (shared[i, kept] > 0.5).any():
                kept.append(int(i))
        return boxes[kept]

    def _judge(self, image: NDArray[np.uint8], boxes: NDArray[np.float64]) -> list[Detection]:
        """Score boxes by how well the landmarks of several views agree."""
        frames = []
        for box in boxes:
            plain = self._frame(box)
            for turn, zoom, dx, dy in _VIEWS:
                x, y = plain.centre_x + dx * plain.side, plain.centre_y + dy * plain.side
                frames.append(CropFrame(x, y, plain.side * zoom, self._size, turn))
        points = self._points(image, frames)[:, :, :2].reshape(len(boxes), len(_VIEWS), 68, 2)
        found = []
        for views in points:
            middle = np.median(views, axis=0)
            box = box_of_points(middle)
            extent = float(np.sqrt((box[2:] - box[:2]).prod()))
            spread = float(np.linalg.norm(views - middle, axis=2).mean()) / max(extent, 1e-6)
            found.append(Detection(box, float(np.exp(-((spread / _AGREEMENT) ** 2)))))
        return found
