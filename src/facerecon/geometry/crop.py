"""The square that is cut out of a photo for the network, and the way back.

Convention:
    An integer pixel coordinate is the centre of a pixel. A crop of side ``L`` (photo pixels)
    centred at ``c`` and turned by ``angle`` maps crop-normalised coordinates ``n`` in
    [-1/2, 1/2] to the photo as ``image = c + L * Rot(angle) @ n``; crop pixel ``j`` of ``size``
    sits at ``n = (j + 1/2) / size - 1/2``. Depth is scaled alike: ``z_image = L * n_z``.

    One worked number: the crop centred at (100, 50) with side 64 and size 128 has its first
    pixel at n = -0.49609, which is photo x = 68.25, y = 18.25.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerecon.errors import BoxError

__all__ = ["CropFrame", "box_of_points", "checked_box"]


def box_of_points(points: ArrayLike) -> NDArray[np.float64]:
    """The tight box x0, y0, x1, y1 round (n, >=2) points."""
    xy = np.asarray(points, dtype=np.float64)[:, :2]
    return np.concatenate([xy.min(0), xy.max(0)])


def checked_box(box: ArrayLike, image_shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A box as float64, or a clear error.

    Args:
        box: x0, y0, x1, y1 in photo pixels.
        image_shape: Shape of the photo, (height, width, ...).

    Returns:
        (4,) float64.

    Raises:
        BoxError: Not four finite numbers, empty, or wholly outside the photo.
    """
    try:
        values = np.asarray(box, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise BoxError(f"box is {box!r}; four finite numbers x0, y0, x1, y1 are needed")
    x0, y0, x1, y1 = values
    if x1 - x0 < 1 or y1 - y0 < 1:
        raise BoxError(
            f"box {values.tolist()} is empty: x1, y1 must exceed x0, y0 by a pixel or more "
            "(boxes are x0, y0, x1, y1, not x, y, width, height)"
        )
    height, width = image_shape[:2]
    if x1 < 0 or y1 < 0 or x0 > width - 1 or y0 > height - 1:
        raise BoxError(f"box {values.tolist()} lies outside the {width} x {height} photo")
    return values


@dataclass(frozen=True)
class CropFrame:
    """A square region of a photo, the owner of crop <-> image in both directions.

    Attributes:
        centre_x: Photo x of the square's centre, pixels.
        centre_y: Photo y of the square's centre, pixels.
        side: Side of the square, photo pixels.
        size: Side of the crop, crop pixels.
        angle: In-plane turn of the square in degrees, clockwise in the picture.
    """

    centre_x: float
    centre_y: float
    side: float
    size: int
    angle: float = 0.0

    @classmethod
    def from_box(cls, box: ArrayLike, margin: float, size: int) -> CropFrame:
        """The square of side ``margin * max(width, height)`` round a box's centre."""
        return cls.from_points(np.reshape(box, (2, 2)), margin, size)

    @classmethod
    def from_points(
        cls, points: ArrayLike, margin: float, size: int, angle: float = 0.0
    ) -> CropFrame:
        """The turned square of side ``margin * max(width, height)`` round (n, >=2) points.

        Width, height and centre are those of the points' tight box along the square's own edges.
        """
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        turn = np.array([[cos, -sin], [sin, cos]])
        x0, y0, x1, y1 = box_of_points(np.asarray(points, dtype=np.float64)[:, :2] @ turn)
        centre = turn @ [(x0 + x1) / 2, (y0 + y1) / 2]
        side = margin * max(x1 - x0, y1 - y0)
        return cls(float(centre[0]), float(centre[1]), float(side), size, angle)

    @property
    def image_from_normalised(self) -> NDArray[np.float64]:
        """(2, 3) affine matrix from crop-normalised coordinates to photo pixels."""
        cos, sin = np.cos(np.radians(self.angle)), np.sin(np.radians(self.angle))
        side = self.side
        return np.array(
            [[side * cos, -side * sin, self.centre_x], [side * sin, side * cos, self.centre_y]]
        )

    def image_from_crop(self, size: int | None = None) -> NDArray[np.float64]:
        """(2, 3) affine matrix from crop pixels (of ``size``, default this crop's) to the photo."""
        pixels = self.size if size is None else size
        matrix = self.image_from_normalised
        linear = matrix[:, :2] / pixels
        offset = matrix[:, :2] @ np.full(2, 0.5 / pixels - 0.5) + matrix[:, 2]
        return np.column_stack([linear, offset])

    def to_image(self, normalised: ArrayLike) -> NDArray[np.float64]:
        """Crop-normalised points (..., 3) to photo pixels (..., 3)."""
        points = np.asarray(normalised, dtype=np.float64)
        matrix = self.image_from_normalised
        xy = points[..., :2] @ matrix[:, :2].T + matrix[:, 2]
        return np.concatenate([xy, points[..., 2:] * self.side], axis=-1)

    def to_normalised(self, image_points: ArrayLike) -> NDArray[np.float64]:
        """Photo points (..., 3) to crop-normalised coordinates, the inverse of `to_image`."""
        points = np.asarray(image_points, dtype=np.float64)
        matrix = self.image_from_normalised
        xy = (points[..., :2] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        return np.concatenate([xy, points[..., 2:] / self.side], axis=-1)

    def varied(self, turn: float, zoom: float, dx: float = 0.0, dy: float = 0.0) -> CropFrame:
        """Another crop of the same size in pixels.

        Args:
            turn: Degrees by which it is turned further.
            zoom: Factor on its side.
            dx: Shift of its centre to the photo's right, in sides of this crop.
            dy: Likewise, down.
        """
        return replace(
            self,
            centre_x=self.centre_x + dx * self.side,
            centre_y=self.centre_y + dy * self.side,
            side=self.side * zoom,
            angle=self.angle + turn,
        )

    def warp(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut the crop out of a photo.

        Bilinear; outside the photo its edge is repeated. Where the photo is finer than the
        crop, the crop is taken at a whole multiple of its size and averaged down, so that a
        large photo is not aliased.

        Args:
            image: (h, w, 3) uint8.

        Returns:
            (size, size, 3) uint8.
        """
        multiple = int(np.clip(np.ceil(self.side / self.size), 1, 16))
        fine = self.size * multiple
        matrix = self.image_from_crop(fine)
        # cv2 keeps source coordinates in 16 bits, so a huge photo is first cut to the square's
        # surroundings, and a square far larger than 16 samples a pixel is shrunk beforehand
        patch, shift = _surroundings(image, matrix, fine)
        matrix[:, 2] -= shift
        if self.side / fine > 2:
            shrink = fine / self.side
            height, width = patch.shape[:2]
            small = (max(1, round(width * shrink)), max(1, round(height * shrink)))
            factor = np.array([small[0] / width, small[1] / height])
            patch = np.asarray(cv2.resize(patch, small, interpolation=cv2.INTER_AREA), np.uint8)
            matrix[:, 2] = (matrix[:, 2] + 0.5) * factor - 0.5
            matrix[:, :2] *= factor[:, None]
        crop = cv2.warpAffine(
            patch,
            matrix,
            (fine, fine),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        if multiple > 1:
            crop = cv2.resize(crop, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return np.asarray(crop, dtype=np.uint8)


def _surroundings(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The part of a photo that a crop of (size, size) touches, and its corner (x, y)."""
    height, width = image.shape[:2]
    last = size - 1.0
    corners = np.array([[0, 0, 1], [last, 0, 1], [0, last, 1], [last, last, 1]]) @ matrix.T
    limit = np.array([width - 1, height - 1])
    low = np.clip(np.floor(corners.min(0)) - 2, 0, limit).astype(int)
    high = np.clip(np.ceil(corners.max(0)) + 2, 0, limit).astype(int)
    return image[low[1] : high[1] + 1, low[0] : high[0] + 1], low.astype(np.float64)
