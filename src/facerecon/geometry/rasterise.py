"""Which triangle each pixel of an orthographic camera sees.

Convention:
    The camera looks along +z: of two points at one pixel, the one with the smaller z is seen.
    An integer is the centre of a pixel. One worked number: the triangle (0,0), (2,0), (0,2)
    covers the six pixels with x + y <= 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Raster", "rasterise"]


@dataclass(frozen=True)
class Raster:
    """What each pixel sees.

    Attributes:
        triangle: (h, w) index of the nearest triangle, -1 where there is none.
        weights: (h, w, 3) barycentric weights of its corners; 0 where there is none.
        corners: (t, 3) vertex indices of all triangles.
    """

    triangle: NDArray[np.int64]
    weights: NDArray[np.float64]
    corners: NDArray[np.int64]

    @property
    def covered(self) -> NDArray[np.bool_]:
        """(h, w) True where a triangle is seen."""
        return self.triangle >= 0

    def interpolate(self, values: ArrayLike) -> NDArray[np.float64]:
        """Per-vertex values (v, c) at each pixel, (h, w, c); 0 where there is no triangle."""
        array = np.asarray(values, dtype=np.float64)
        picked: NDArray[np.float64] = np.einsum(
            "hwk,hwkc->hwc", self.weights, array[self.corners[self.triangle]]
        )
        return picked


def rasterise(vertices: ArrayLike, triangles: ArrayLike, height: int, width: int) -> Raster:
    """Rasterise a mesh; both sides of a triangle are seen.

    Args:
        vertices: (v, 3) pixels, z into the scene.
        triangles: (t, 3) vertex indices.
        height: Rows of the picture.
        width: Columns of the picture.
    """
    points = np.asarray(vertices, dtype=np.float64)
    indices = np.asarray(triangles, dtype=np.int64)
    corners = points[indices]
    limit = np.array([width, height])
    a, b, c = (corners[:, k, :2] for k in range(3))
    low = np.ceil(np.minimum(np.minimum(a, b), c)).clip(0, limit).astype(int)
    high = np.floor(np.maximum(np.maximum(a, b), c)).clip(-1, limit - 1).astype(int)
    span = (high - low + 1).clip(0)
    count = span[:, 0] * span[:, 1]
    which = np.repeat(np.arange(len(count)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(within, span[which, 0].clip(1))
    x, y = low[which, 0] + column, low[which, 1] + row

    # edge functions, as three linear forms per triangle: constant + x .. + y ..
    forms = [_form(b, c), _form(c, a), _form(a, b)]
    area = forms[0][0] + forms[1][0] + forms[2][0]
    usable = np.abs(area) > 1e-12
    area = np.where(usable, area, np.nan)
    constant, along_x, along_y = (np.stack([f[k] / area for f in forms]) for k in range(3))
    weights = constant[:, which] + along_x[:, which] * x + along_y[:, which] * y
    inside = np.minimum(np.minimum(weights[0], weights[1]), weights[2]) >= -1e-9  # NaN: outside
    which, weights, pixel = which[inside], weights[:, inside], (y * width + x)[inside]
    depth = (weights * corners[which, :, 2].T).sum(0)
    # drawn from the farthest to the nearest: the last one written to a pixel is seen
    order = np.argsort(-depth, kind="stable")
    nearest = np.full(height * width, -1)
    nearest[pixel[order]] = order
    seen = nearest >= 0
    triangle = np.where(seen, which[nearest] if len(which) else -1, -1)
    bary = np.zeros((height * width, 3))
    bary[seen] = weights[:, nearest[seen]].T
    return Raster(triangle.reshape(height, width), bary.reshape(height, width, 3), indices)


def _form(
    p: NDArray[np.float64], q: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients (constant, of x, of y) of cross(p - (x, y), q - (x, y))."""
    return p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0], p[:, 1] - q[:, 1], q[:, 0] - p[:, 0]
