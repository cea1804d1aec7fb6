"""Normals of triangles and vertices.

Convention:
    With corners a, b, c of a triangle in a right-handed frame, its normal is along
    ``(b - a) x (c - a)``. One worked number: (0,0,0), (1,0,0), (0,1,0) has normal (0, 0, 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["triangle_normals", "vertex_normals"]


def triangle_normals(vertices: ArrayLike, triangles: ArrayLike) -> NDArray[np.float64]:
    """Normals of twice the triangles' area in length, (t, 3), from (v, 3) and (t, 3)."""
    corners = np.asarray(vertices, dtype=np.float64)[np.asarray(triangles)]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def vertex_normals(vertices: ArrayLike, triangles: ArrayLike) -> NDArray[np.float64]:
    """Unit normals (v, 3), area-weighted over the triangles round each vertex.

    Vertices of no triangle, or of degenerate ones only, get (0, 0, 0).
    """
    points = np.asarray(vertices, dtype=np.float64)
    corners = np.asarray(triangles)
    normals = triangle_normals(points, corners)
    total = np.stack(
        [
            np.bincount(corners.ravel(), np.repeat(normals[:, axis], 3), minlength=len(points))
            for axis in range(3)
        ],
        axis=1,
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.zeros_like(total), where=length > 0)
