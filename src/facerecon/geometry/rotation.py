"""Rotation matrices, Euler angles and quaternions of a head.

Convention:
    The camera frame is x right, y down, z into the scene (right-handed, as in OpenCV).
    A *head rotation* ``H`` is the turn of the head from looking straight into the camera,
    written in the camera frame; the identity is a frontal, upright face. It factors as

        H = Ry(-yaw) @ Rx(pitch) @ Rz(roll)

    with the usual right-handed matrices about the camera's axes, so that the nose points
    along ``H @ (0, 0, -1) = (sin yaw cos pitch, sin pitch, -cos yaw cos pitch)``.

    - yaw   > 0: the nose turns to the person's own left, which is right in the picture;
    - pitch > 0: the nose points down;
    - roll  > 0: the head leans clockwise in the picture, to the person's own left shoulder.

    One worked number: yaw 30, pitch 0, roll 0 puts the nose along (0.5, 0, -0.866).

    AFLW2000-3D and 300W-LP store pitch, yaw, roll of ``A = Rx(-p) @ Ry(-y) @ Rz(-r)`` in a
    frame with y up and z towards the viewer, so ``A = F H F`` with ``F = diag(1, -1, -1)``;
    there a yaw of -30 is the head above.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FACE_TO_CAMERA",
    "aflw2000_from_matrix",
    "euler_from_matrix",
    "matrix_from_aflw2000",
    "matrix_from_euler",
    "quaternion_from_matrix",
]

FACE_TO_CAMERA: NDArray[np.float64] = np.diag([1.0, -1.0, -1.0])
"""Canonical face axes (x to the person's left, y up, z out of the face) to a frontal camera."""
FACE_TO_CAMERA.setflags(write=False)


def _axis(axis: int, angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = cos
    matrix[i, j], matrix[j, i] = -sin, sin
    return matrix


def matrix_from_euler(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """The head rotation of three angles.

    Args:
        yaw: Degrees, positive when the nose turns to the person's own left.
        pitch: Degrees, positive when the nose points down.
        roll: Degrees, positive when the head leans clockwise in the picture.

    Returns:
        A (3, 3) rotation in the camera frame.
    """
    y, p, r = np.radians([yaw, pitch, roll])
    return _axis(1, -y) @ _axis(0, p) @ _axis(2, r)


def euler_from_matrix(rotation: ArrayLike) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a head rotation, the inverse of :func:`matrix_from_euler`.

    At pitch = +-90 degrees yaw and roll turn about one axis; roll is then reported as 0.

    Args:
        rotation: (3, 3) rotation in the camera frame.

    Returns:
        (yaw, pitch, roll) in degrees; yaw and roll in (-180, 180], pitch in [-90, 90].
    """
    h = np.asarray(rotation, dtype=np.float64)
    # H[1] = (cos p sin r, cos p cos r, -sin p) and H[:, 2] = (-sin y cos p, -sin p, cos y cos p)
    pitch = np.arctan2(-h[1, 2], np.hypot(h[1, 0], h[1, 1]))
    if np.hypot(h[1, 0], h[1, 1]) < 1e-9:
        yaw, roll = np.arctan2(h[2, 0], h[0, 0]), 0.0
    else:
        yaw, roll = np.arctan2(-h[0, 2], h[2, 2]), np.arctan2(h[1, 0], h[1, 1])
    degrees = np.degrees([yaw, pitch, roll])
    return float(degrees[0]), float(degrees[1]), float(degrees[2])


def quaternion_from_matrix(rotation: ArrayLike) -> NDArray[np.float64]:
    """The unit quaternion (w, x, y, z), w >= 0, of a rotation matrix (3, 3)."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(np.asarray(rotation, dtype=np.float64)).as_quat(
        canonical=True
    )
    return np.array([w, x, y, z])


def matrix_from_aflw2000(pitch: float, yaw: float, roll: float) -> NDArray[np.float64]:
    """The head rotation of AFLW2000-3D's / 300W-LP's ``Pose_Para[:3]``, given in degrees."""
    p, y, r = np.radians([pitch, yaw, roll])
    return FACE_TO_CAMERA @ _axis(0, -p) @ _axis(1, -y) @ _axis(2, -r) @ FACE_TO_CAMERA


def aflw2000_from_matrix(rotation: ArrayLike) -> tuple[float, float, float]:
    """(pitch, yaw, roll) in degrees as AFLW2000-3D stores them, from a head rotation (3, 3).

    The inverse of :func:`matrix_from_aflw2000` for |yaw| < 90, the range of the data sets.
    """
    a = FACE_TO_CAMERA @ np.asarray(rotation, dtype=np.float64) @ FACE_TO_CAMERA
    pitch = np.arctan2(a[1, 2], a[2, 2])
    yaw = np.arctan2(-a[0, 2], np.hypot(a[0, 0], a[0, 1]))
    roll = np.arctan2(a[0, 1], a[0, 0])
    degrees = np.degrees([pitch, yaw, roll])
    return float(degrees[0]), float(degrees[1]), float(degrees[2])
