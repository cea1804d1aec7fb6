"""The head pose: the similarity that takes the canonical face onto the reconstructed one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerecon.geometry import (
    FACE_TO_CAMERA,
    aflw2000_from_matrix,
    euler_from_matrix,
    quaternion_from_matrix,
    triangle_normals,
    umeyama,
)
from facerecon.uv import UVLayout

__all__ = ["HeadPose", "fit_pose"]


@dataclass(frozen=True)
class HeadPose:
    """Weak-perspective pose of a head, ``image = scale * rotation @ F @ X + translation``.

    X are canonical face coordinates in centimetres and ``F = diag(1, -1, -1)`` turns their axes
    to the camera's (x right, y down, z into the scene), so that the identity rotation is a
    frontal, upright face. Angles are described in :mod:`facerecon.geometry.rotation`.

    Attributes:
        rotation: (3, 3) head rotation in the camera frame.
        scale: Pixels per centimetre.
        translation: (3,) photo pixels of the canonical origin.
    """

    rotation: NDArray[np.float64]
    scale: float
    translation: NDArray[np.float64]

    @cached_property
    def _angles(self) -> tuple[float, float, float]:
        return euler_from_matrix(self.rotation)

    @property
    def yaw(self) -> float:
        """Degrees; positive when the nose turns to the person's own left."""
        return self._angles[0]

    @property
    def pitch(self) -> float:
        """Degrees; positive when the nose points down."""
        return self._angles[1]

    @property
    def roll(self) -> float:
        """Degrees; positive when the head leans clockwise in the picture."""
        return self._angles[2]

    @property
    def quaternion(self) -> NDArray[np.float64]:
        """(w, x, y, z) of the head rotation, w >= 0."""
        return quaternion_from_matrix(self.rotation)

    def to_aflw2000(self) -> tuple[float, float, float]:
        """(pitch, yaw, roll) in degrees in the convention of AFLW2000-3D and 300W-LP."""
        return aflw2000_from_matrix(self.rotation)

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Canonical points (n, 3), centimetres, to the photo, (n, 3) pixels."""
        moved: NDArray[np.float64] = (
            self.scale * np.asarray(points, np.float64) @ (self.rotation @ FACE_TO_CAMERA).T
            + self.translation
        )
        return moved


def fit_pose(vertices: ArrayLike, layout: UVLayout) -> HeadPose:
    """Fit the pose of a reconstructed face.

    Weighted least squares over the vertices that face the camera, against the canonical face;
    vertices that expressions move count little (the layout's ``rigidity``).

    Args:
        vertices: (v, 3) in photo pixels, z into the scene.
        layout: The face layout they belong to.
    """
    points = np.asarray(vertices, dtype=np.float64)
    normals = triangle_normals(points, layout.triangles)
    facing = np.zeros(len(points), bool)
    facing[layout.triangles[normals[:, 2] < 0]] = True
    weights = layout.rigidity.astype(np.float64) * facing
    if np.count_nonzero(weights) < 4:
        weights = layout.rigidity.astype(np.float64)
    fit = umeyama(layout.canonical, points, weights)
    return HeadPose(fit.rotation @ FACE_TO_CAMERA, fit.scale, fit.translation)
