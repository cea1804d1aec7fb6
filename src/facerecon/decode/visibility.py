"""What of a mesh the camera sees, by a depth buffer.

Convention:
    The camera looks along +z, orthographically: of two points at one pixel, the one with the
    smaller z is seen. A triangle faces the camera when its normal's z is negative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerecon.geometry import rasterise, vertex_normals

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
    raster = rasterise(points, triangles, height, width)
    depth = raster.interpolate(points[:, 2:])[..., 0]
    return np.where(raster.covered, depth, np.nan).astype(np.float32)


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
