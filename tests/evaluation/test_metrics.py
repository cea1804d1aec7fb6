"""Constructed cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from facerecon.evaluation.metrics import (
    balanced_draw,
    bootstrap_interval,
    cumulative_curve,
    mean_of_bins,
    nme,
    point_errors,
)
from facerecon.evaluation.reconstruction import (
    align_icp,
    reconstruction_corresponding,
    reconstruction_icp,
    reconstruction_sparse,
)
from facerecon.uv import UVLayout


def moved(points: np.ndarray, seed: int, degrees: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis))
    return rng.uniform(0.5, 3) * turn.apply(points) + rng.normal(size=3) * 40


def test_shift_over_box_for_many_at_once() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (50, 68, 2))
    shift = rng.normal(size=(50, 1, 2)) * 5
    box = np.ptp(truth, axis=1)
    expected = 100 * np.linalg.norm(shift[:, 0], axis=1) / np.sqrt(box.prod(1))
    np.testing.assert_allclose(point_errors(truth + shift, truth), expected)
    assert nme(truth[3] + shift[3], truth[3]) == pytest.approx(expected[3])


def test_hidden_points_do_not_count() -> None:
    truth = np.array([[[0.0, 0], [40, 0], [0, 90], [40, 90], [np.nan, np.nan]]])
    found = np.nan_to_num(truth) + [3.0, 4.0]
    found[0, 4] = 1e6
    np.testing.assert_allclose(point_errors(found, truth), 100 * 5 / 60)
    assert np.isnan(point_errors(found * np.nan, truth)).all()


def test_mean_of_bins_weighs_bins_alike() -> None:
    errors, bins = np.array([1.0, 1, 1, 4, np.nan, 7]), np.array([0, 0, 0, 1, 1, 2])
    assert mean_of_bins(errors, bins) == pytest.approx((1 + 4 + 7) / 3)


def test_balanced_draw_is_seeded_and_even() -> None:
    bins = np.repeat([0, 1, 2], [1306, 462, 232])
    rows = balanced_draw(bins, seed=3)
    assert len(rows) == 696 and len(set(rows)) == 696
    assert np.bincount(bins[rows]).tolist() == [232, 232, 232]
    np.testing.assert_array_equal(rows, balanced_draw(bins, seed=3))
    assert (rows != balanced_draw(bins, seed=4)).any()


def test_bootstrap_covers_the_true_mean() -> None:
    """Of 200 samples of a known distribution about 95 % of the intervals hold its mean."""
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.exponential(3.0, 150), draws=400, seed=trial)
        held += low <= 3.0 <= high
    assert 180 <= held <= 199


def test_bootstrap_of_the_mean_of_bins_is_stratified() -> None:
    bins = np.repeat([0, 1, 2], [100, 10, 5])
    constant = np.array([1.0, 2.0, 6.0])[bins]  # no spread within a bin: no spread at all
    assert bootstrap_interval(constant, bins) == pytest.approx((3.0, 3.0))
    low, high = bootstrap_interval([1.0, np.nan, 3.0], draws=50)
    assert 1 <= low <= high <= 3


def test_cumulative_curve_counts_failures_as_worst() -> None:
    curve = cumulative_curve([1.0, 3.0, np.nan, 2.0], [0.5, 1.0, 2.5, 100.0])
    np.testing.assert_allclose(curve, [0, 0.25, 0.5, 0.75])


@pytest.mark.parametrize("degrees", [5.0, 18.0, 30.0])
def test_icp_recovers_known_transforms(layout: UVLayout, degrees: float) -> None:
    points = layout.canonical[::3].astype(float)
    for seed in range(3):
        target = moved(points, seed, degrees)
        np.testing.assert_allclose(align_icp(points, target).apply(points), target, atol=1e-3)


def test_a_similar_copy_reconstructs_to_nothing(layout: UVLayout) -> None:
    face = layout.canonical[::4].astype(float)
    target = moved(face, 1, 20)
    landmarks = moved(layout.landmarks_of(layout.canonical), 1, 20)
    assert reconstruction_icp(face, target, landmarks) == pytest.approx(0, abs=1e-3)
    assert reconstruction_corresponding(face, target, landmarks) == pytest.approx(0, abs=1e-9)
    assert reconstruction_sparse(face, target, every=5) < 0.5


def test_a_known_difference_over_the_interocular_distance(layout: UVLayout) -> None:
    """Points pushed alternately by d along z: the similarity cannot take that away."""
    landmarks = layout.landmarks_of(layout.canonical)
    pushed = landmarks + [0, 0, 1] * (np.arange(68) % 2 * 2 - 1)[:, None] * 0.2
    distance = np.linalg.norm(landmarks[36] - landmarks[45])
    error = reconstruction_corresponding(pushed, landmarks, landmarks)
    assert error == pytest.approx(100 * 0.2 / distance, rel=0.05)
