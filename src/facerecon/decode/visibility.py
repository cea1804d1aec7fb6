"""What of a mesh the camera sees, by a depth buffer.

Convention:
    The camera looks along +z, orthographically: of two points at one pixel, the one with the
    smaller z is seen. A triangle faces the camera when its normal's z is negative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerecon.geometry import vertex_normals

__all__ = ["depth_image", "visible_vertices"]


def depth_image(
    vertices: ArrayLike, triangles: ArrayLike, height: int, width: int
) -> NDArray[np.float32]:
    """Depth of the nearest surface at each pixel.

    Args:
        vertices: (v, 3) pixels, z into the scene.
        triangles: (t, 3).
        height: Rows of the picture.
        width: Columns of the picture.

    Returns:
        (height, width) z in pixels, NaN where there is no surface.
    """
    points = np.asarray(vertices, dtype=np.float64)
    corners = points[np.asarray(triangles)]
    limit = np.array([width, height])
    low = np.ceil(corners[:, :, :2].min(1)).clip(0, limit).astype(int)
    high = np.floor(corners[:, :, :2].max(1)).clip(-1, limit - 1).astype(int)
    span = (high - low + 1).clip(0)
    count = span.prod(1)
    which = np.repeat(np.arange(len(count)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    x = low[which, 0] + within % span[which, 0].clip(1)
    y = low[which, 1] + within // span[which, 0].clip(1)
    a, b, c = (corners[which, k] for k in range(3))

    def cross(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
        area: NDArray[np.float64] = (p[:, 0] - x) * (q[:, 1] - y) - (p[:, 1] - y) * (q[:, 0] - x)
        return area

    weights = np.stack([cross(b, c), cross(c, a), cross(a, b)], 1)
    area = weights.sum(1)
    usable = np.abs(area) > 1e-12
    weights = weights / np.where(usable, area, 1.0)[:, None]
    inside = usable & (weights.min(1) >= -1e-9)
    depth = (weights * np.stack([a[:, 2], b[:, 2], c[:, 2]], 1)).sum(1)[inside]
    image = np.full(height * width, np.inf)
    np.minimum.at(image, (y * width + x)[inside], depth)
    image[np.isinf(image)] = np.nan
    return image.reshape(height, width).astype(np.float32)


def visible_vertices(
    vertices: ArrayLike, triangles: ArrayLike, resolution: int = 160
) -> NDArray[np.bool_]:
    """Which vertices the camera sees: facing it, and not behind another part of the face.

    Args:
        vertices: (v, 3) pixels, z into the scene.
        triangles: (t, 3).
        resolution: Side of the depth buffer, which is laid over the face's own extent.

    Returns:
        (v,) True where seen.
    """
    points = np.asarray(vertices, dtype=np.float64)
    low = points[:, :2].min(0)
    scale = (resolution - 1) / max(float(np.ptp(points[:, :2], axis=0).max()), 1e-9)
    scaled = np.column_stack([(points[:, :2] - low) * scale, points[:, 2] * scale])
    buffer = depth_image(scaled, triangles, resolution, resolution)
    column, row = np.rint(scaled[:, :2]).astype(int).T
    nearest = buffer[row, column].astype(np.float64)
    normals = vertex_normals(points, triangles)
    # within a pixel of the buffer a slanted surface changes by its slope: allow that, and a little
    slope = np.hypot(normals[:, 0], normals[:, 1]) / np.abs(normals[:, 2]).clip(0.05)
    behind = scaled[:, 2] > nearest + 1.5 + slope
    seen: NDArray[np.bool_] = (normals[:, 2] < 0) & ~(behind & np.isfinite(nearest))
    return seen
