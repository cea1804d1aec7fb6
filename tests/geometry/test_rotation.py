from __future__ import annotations

import numpy as np
import pytest

from facerecon.geometry import (
    aflw2000_from_matrix,
    euler_from_matrix,
    matrix_from_aflw2000,
    matrix_from_euler,
    quaternion_from_matrix,
)

NOSE = np.array([0.0, 0.0, -1.0])


@pytest.mark.parametrize(
    ("angles", "nose"),
    [
        ((0, 0, 0), (0, 0, -1)),
        ((30, 0, 0), (0.5, 0, -np.sqrt(0.75))),  # own left is right in the picture
        ((0, 30, 0), (0, 0.5, -np.sqrt(0.75))),  # down
        ((90, 0, 0), (1, 0, 0)),
    ],
)
def test_the_nose_points_where_the_signs_say(angles, nose) -> None:
    np.testing.assert_allclose(matrix_from_euler(*angles) @ NOSE, nose, atol=1e-12)


def test_positive_roll_leans_clockwise_in_the_picture() -> None:
    up = matrix_from_euler(0, 0, 30) @ [0, -1, 0]
    np.testing.assert_allclose(up, [0.5, -np.sqrt(0.75), 0], atol=1e-12)


def test_angles_round_trip_over_the_whole_range() -> None:
    rng = np.random.default_rng(0)
    for yaw, pitch, roll in rng.uniform([-180, -89.9, -180], [180, 89.9, 180], (300, 3)):
        matrix = matrix_from_euler(yaw, pitch, roll)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)
        np.testing.assert_allclose(euler_from_matrix(matrix), (yaw, pitch, roll), atol=1e-8)


@pytest.mark.parametrize("pitch", [90, -90])
def test_gimbal_lock_reports_roll_zero_and_the_same_rotation(pitch: float) -> None:
    matrix = matrix_from_euler(25, pitch, 40)
    yaw, found, roll = euler_from_matrix(matrix)
    assert (found, roll) == (pytest.approx(pitch), 0)
    np.testing.assert_allclose(matrix_from_euler(yaw, found, roll), matrix, atol=1e-9)


def test_aflw2000_round_trip_and_sign() -> None:
    rng = np.random.default_rng(1)
    for angles in rng.uniform(-85, 85, (100, 3)):
        np.testing.assert_allclose(aflw2000_from_matrix(matrix_from_aflw2000(*angles)), angles)
    assert aflw2000_from_matrix(matrix_from_euler(30, 0, 0)) == pytest.approx((0, -30, 0))


def test_aflw2000_matrix_is_the_data_sets_formula() -> None:
    """R = Rx Ry Rz with face3d's transposed factors, in a frame with y up and z to the viewer."""
    p, y, r = np.radians([10, 20, 30])
    c, s = np.cos, np.sin
    rx = np.array([[1, 0, 0], [0, c(p), s(p)], [0, -s(p), c(p)]])
    ry = np.array([[c(y), 0, -s(y)], [0, 1, 0], [s(y), 0, c(y)]])
    rz = np.array([[c(r), s(r), 0], [-s(r), c(r), 0], [0, 0, 1]])
    flip = np.diag([1, -1, -1])
    np.testing.assert_allclose(matrix_from_aflw2000(10, 20, 30), flip @ rx @ ry @ rz @ flip)


def test_quaternion_of_a_yaw() -> None:
    half = np.radians(-15)  # yaw +30 turns by -30 about the camera's y axis, which points down
    expected = [np.cos(half), 0, np.sin(half), 0]
    np.testing.assert_allclose(quaternion_from_matrix(matrix_from_euler(30, 0, 0)), expected)
