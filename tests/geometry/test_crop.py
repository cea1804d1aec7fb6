from __future__ import annotations

import cv2
import numpy as np
import pytest

from facerecon.errors import BoxError
from facerecon.geometry import CropFrame, box_of_points, checked_box


def test_the_documented_number() -> None:
    matrix = CropFrame(100, 50, 64, 128).image_from_crop()
    np.testing.assert_allclose(matrix[:, 2], [68.25, 18.25])


def test_points_round_trip_and_depth_scales_with_the_side() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        frame = CropFrame(
            *rng.uniform(-50, 500, 2), rng.uniform(5, 900), 128, rng.uniform(-180, 180)
        )
        points = rng.normal(size=(10, 3)) * 200
        np.testing.assert_allclose(frame.to_image(frame.to_normalised(points)), points, atol=1e-8)
        np.testing.assert_allclose(frame.to_normalised(points)[:, 2] * frame.side, points[:, 2])


def test_the_crops_centre_and_edge() -> None:
    frame = CropFrame.from_box((10, 20, 30, 60), margin=1.5, size=64)
    np.testing.assert_allclose(frame.to_image([0, 0, 0]), [20, 40, 0])
    assert frame.side == 60
    np.testing.assert_allclose(frame.to_image([0.5, 0, 0]), [50, 40, 0])


@pytest.mark.parametrize("side", [40.0, 128.0, 200.0, 700.0, 3000.0])
@pytest.mark.parametrize("angle", [0.0, 33.0])
def test_warp_puts_pixels_where_points_go(side: float, angle: float) -> None:
    """The centroid of a painted dot lands where to_normalised sends its centre."""
    size = int(side * 1.6)
    photo = np.zeros((size, size, 3), np.uint8)
    centre = np.array([size * 0.5 + side * 0.1, size * 0.5 - side * 0.13])
    cv2.circle(photo, np.rint(centre * 16).astype(int).tolist(), int(side), (255,) * 3, -1, 16, 4)
    frame = CropFrame(size / 2, size / 2, side, 128, angle)
    crop = frame.warp(photo)[:, :, 0].astype(float)
    rows, columns = np.mgrid[:128, :128]
    found = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
    expected = (frame.to_normalised([*centre, 0])[:2] + 0.5) * 128 - 0.5
    np.testing.assert_allclose(found, expected, atol=0.15)


def test_a_crop_of_the_whole_picture_is_the_picture() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    frame = CropFrame(31.5, 31.5, 64, 64)
    np.testing.assert_array_equal(frame.warp(photo), photo)


def test_shrinking_averages_instead_of_skipping() -> None:
    photo = np.zeros((512, 512, 3), np.uint8)
    photo[::2] = 255  # stripes finer than the crop's pixels
    crop = CropFrame(255.5, 255.5, 512, 64).warp(photo)
    assert np.abs(crop.astype(int) - 127).max() <= 1


def test_outside_the_photo_its_edge_is_repeated() -> None:
    photo = np.full((20, 20, 3), 90, np.uint8)
    assert (CropFrame(0, 0, 60, 32).warp(photo) == 90).all()


@pytest.mark.parametrize("angle", [-50.0, 0.0, 35.0])
def test_the_turned_square_round_points(angle: float) -> None:
    """Points that fill a turned rectangle: the crop shows it upright, in its middle."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    corners = np.array([[-30, -20], [30, -20], [30, 20], [-30, 20]])
    points = corners @ np.array([[cos, -sin], [sin, cos]]).T + [200, 90]
    frame = CropFrame.from_points(points, 1.5, 128, angle)
    assert (frame.centre_x, frame.centre_y) == pytest.approx((200, 90))
    assert frame.side == pytest.approx(1.5 * 60)
    seen = frame.to_normalised(np.column_stack([points, np.zeros(4)]))
    np.testing.assert_allclose(seen[:, :2], corners / 90, atol=1e-9)
    plain = CropFrame.from_box([170, 70, 230, 110], 1.5, 128)
    if not angle:
        assert frame == plain


def test_box_of_points() -> None:
    np.testing.assert_array_equal(box_of_points([[1, 5, 9], [3, 2, 9]]), [1, 2, 3, 5])


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 5),
        (0, 0, np.nan, 5),
        (5, 5, 5, 9),
        (50, 10, 10, 50),
        (200, 0, 300, 50),
        (-50, -50, -10, -10),
        "box",
        None,
    ],
)
def test_bad_boxes_are_refused(box) -> None:
    with pytest.raises(BoxError):
        checked_box(box, (100, 100, 3))


def test_boxes_may_reach_over_the_edge() -> None:
    np.testing.assert_array_equal(checked_box((-5, -5, 20, 20), (100, 100)), [-5, -5, 20, 20])
