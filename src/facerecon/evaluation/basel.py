"""300W-LP and AFLW2000-3D with the Basel Face Model, from the user's own copies.

``BFM.mat`` is what face3d's scripts generate from the Basel Face Model 2009 and 300W-LP's
expressions: ``model`` with shapeMU, shapePC, expMU, expPC, tri and kpt_ind; vertices are stored
x, y, z by turns (Fortran order of (3, N)), indices from 1. ``BFM_UV.mat`` holds UV (N, 2).

Convention:
    300W-LP: V = mu + S a + E b; V' = s V R^T + (tx, ty, tz) with R = Rx Ry Rz, y up and z towards
    the viewer, then y <- h - y - 1 (3DDFA; face3d). With F = diag(1, -1, -1) that is
    ``image = s F R V + (tx, h - 1 - ty, -tz)`` in this library's axes, z into the scene.

    One worked number: a vertex at V' = (10, 20, 5) in a photo of 100 rows is at (10, 79, -5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from facerecon.errors import DataError
from facerecon.geometry import FACE_TO_CAMERA, matrix_from_aflw2000, triangle_normals
from facerecon.uv import UVLayout

__all__ = ["MICROMETRES", "BaselModel", "FittedMat"]

_UNREADABLE = (OSError, KeyError, ValueError, IndexError, NotImplementedError, MatReadError)
MICROMETRES = 1e4
"""In a centimetre: the Basel Face Model's unit."""


@dataclass(frozen=True)
class BaselModel:
    """The Basel Face Model with expressions, as 300W-LP uses it.

    Attributes:
        mean: (n, 3) micrometres: x to the person's left, y up, z out of the face.
        identity: (i, n, 3).
        expression: (e, n, 3).
        triangles: (t, 3) vertex indices.
        landmarks: (68,) vertex indices.
        uv: (n, 2) texture coordinates, v upwards.
    """

    mean: NDArray[np.float32]
    identity: NDArray[np.float32]
    expression: NDArray[np.float32]
    triangles: NDArray[np.int32]
    landmarks: NDArray[np.int64]
    uv: NDArray[np.float64]

    @classmethod
    def load(cls, bfm: str | Path, uv: str | Path) -> BaselModel:
        """Read BFM.mat and BFM_UV.mat.

        Raises:
            DataError: A file is missing or holds something else.
        """
        try:
            content = loadmat(bfm)
            model: Any = content["model"][0, 0] if "model" in content else content
            mean = np.asarray(model["shapeMU"], np.float64) + np.asarray(model["expMU"], np.float64)
            triangles = np.asarray(model["tri"], np.int64)
            landmarks = np.asarray(model["kpt_ind"], np.int64).ravel() - 1
            coordinates = np.asarray(loadmat(uv)["UV"], np.float64)
            identity, expression = _directions(model["shapePC"]), _directions(model["expPC"])
        except _UNREADABLE as error:
            raise DataError(f"cannot read the Basel Face Model {bfm}, {uv}: {error}") from error
        if triangles.shape[0] == 3:
            triangles = triangles.T
        vertices = mean.reshape(-1, 3).astype(np.float32)
        count = len(vertices)
        shapes = {identity.shape[1:], expression.shape[1:], (len(coordinates), 3)}
        if shapes != {(count, 3)} or landmarks.shape != (68,):
            raise DataError(
                f"{bfm} and {uv} do not belong together: {count} vertices, directions of "
                f"{identity.shape[1]} and {expression.shape[1]}, {len(coordinates)} uv, "
                f"{len(landmarks)} landmarks"
            )
        indices = (triangles - 1).astype(np.int32)
        return cls(vertices, identity, expression, indices, landmarks, coordinates)

    @cached_property
    def layout(self) -> UVLayout:
        """The layout of PRNet's 256 x 256 maps: u 255, v 255, v <- 256 - v - 1 (face3d)."""
        texel = np.stack([self.uv[:, 0] * 255, 256 - self.uv[:, 1] * 255 - 1], 1)
        triangles = self.triangles
        if triangle_normals(self.mean, triangles)[:, 2].sum() < 0:
            triangles = triangles[:, ::-1]
        count = len(self.mean)
        return UVLayout(
            name="bfm",
            uv=((texel + 0.5) / 256).clip(0, 1).astype(np.float32),
            triangles=np.ascontiguousarray(triangles),
            mirror=np.empty(0, np.int32),
            landmark_vertices=np.repeat(self.landmarks[:, None], 3, 1).astype(np.int32),
            landmark_weights=np.tile(np.array([1, 0, 0], np.float32), (68, 1)),
            regions=_regions(texel, self.landmarks),
            canonical=(self.mean / MICROMETRES).astype(np.float32),
            rigidity=np.ones(count, np.float32),
            source_index=np.arange(count, dtype=np.int32),
        )


def _directions(array: Any) -> NDArray[np.float32]:
    """(3n, d) as stored to (d, n, 3)."""
    values = np.asarray(array, np.float32)
    return np.ascontiguousarray(values.reshape(-1, 3, values.shape[1]).transpose(2, 0, 1))


def _regions(texel: NDArray[np.float64], landmarks: NDArray[np.int64]) -> NDArray[np.uint8]:
    """2 inside the widened hulls of eyes, nose and mouth, 1 elsewhere."""
    regions = np.ones(len(texel), np.uint8)
    for start, stop in ((36, 42), (42, 48), (27, 36), (48, 68)):
        hull = cv2.convexHull(texel[landmarks[start:stop]].astype(np.float32))
        picture = np.zeros((256, 256), np.uint8)
        cv2.fillConvexPoly(picture, np.rint(hull).astype(np.int32), 1)
        grown = cv2.dilate(picture, np.ones((13, 13), np.uint8))
        column, row = np.rint(texel).astype(int).clip(0, 255).T
        regions[grown[row, column] > 0] = 2
    return regions


@dataclass(frozen=True)
class FittedMat:
    """The Basel Face Model fitted to one photo: a ``.mat`` of 300W-LP or AFLW2000-3D.

    Attributes:
        angles: (3,) pitch, yaw, roll in degrees, the data sets' convention.
        translation: (3,) tx, ty, tz, y up.
        scale: Pixels per micrometre.
        identity: (i,).
        expression: (e,).
    """

    angles: NDArray[np.float64]
    translation: NDArray[np.float64]
    scale: float
    identity: NDArray[np.float64]
    expression: NDArray[np.float64]

    @classmethod
    def load(cls, file: str | Path) -> FittedMat:
        """Read a ``.mat``.

        Raises:
            DataError: It cannot be read or has other content.
        """
        try:
            content = loadmat(file)
            pose = np.asarray(content["Pose_Para"], np.float64).ravel()
            shape = np.asarray(content["Shape_Para"], np.float64).ravel()
            expression = np.asarray(content["Exp_Para"], np.float64).ravel()
        except _UNREADABLE as error:
            raise DataError(f"cannot read {file}: {error}") from error
        if pose.shape != (7,) or not np.isfinite(np.r_[pose, shape, expression]).all():
            raise DataError(f"{file}: Pose_Para has {pose.size} numbers, 7 finite ones are needed")
        if pose[6] <= 0:
            raise DataError(f"{file}: the scale {pose[6]} is not positive")
        return cls(np.degrees(pose[:3]), pose[3:6], float(pose[6]), shape, expression)

    def placed(self, height: int) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
        """Rotation, scale and translation of ``image = s R V + t``, z into the scene.

        Args:
            height: Rows of the photo.
        """
        tx, ty, tz = self.translation
        rotation = matrix_from_aflw2000(*self.angles) @ FACE_TO_CAMERA
        return rotation, self.scale, np.array([tx, height - 1 - ty, -tz])

    def vertices(self, model: BaselModel, height: int) -> NDArray[np.float64]:
        """(n, 3) photo pixels, z into the scene."""
        shape = model.mean.astype(np.float64)
        shape = shape + np.tensordot(self.identity, model.identity[: len(self.identity)], 1)
        shape = shape + np.tensordot(self.expression, model.expression[: len(self.expression)], 1)
        rotation, scale, translation = self.placed(height)
        placed: NDArray[np.float64] = scale * shape @ rotation.T + translation
        return placed
