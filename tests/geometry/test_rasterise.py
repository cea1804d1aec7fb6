from __future__ import annotations

import numpy as np

from facerecon.geometry import rasterise


def test_worked_number() -> None:
    raster = rasterise([[0, 0, 1], [2, 0, 1], [0, 2, 1]], [[0, 1, 2]], 4, 5)
    y, x = np.nonzero(raster.covered)
    assert sorted(zip(x.tolist(), y.tolist(), strict=True)) == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0),
    ]  # fmt: skip
    assert (raster.triangle[~raster.covered] == -1).all()
    assert raster.weights[~raster.covered].sum() == 0


def test_linear_functions_are_interpolated_exactly() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([-5, -5, 0], [45, 35, 9], (60, 3))
    triangles = rng.integers(0, 60, (40, 3))
    raster = rasterise(points, triangles, 30, 40)
    rows, columns = np.mgrid[:30, :40]
    values = raster.interpolate(points[:, :2])
    seen = raster.covered
    assert 0.3 < seen.mean() < 1
    np.testing.assert_allclose(values[seen], np.stack([columns, rows], -1)[seen], atol=1e-6)


def test_the_nearest_of_both_windings_is_seen() -> None:
    """Against a plain loop over all triangles and pixels."""
    rng = np.random.default_rng(1)
    points = rng.uniform([0, 0, -3], [12, 10, 3], (12, 3))
    triangles = rng.permutation(12).reshape(4, 3)
    raster = rasterise(points, triangles, 10, 12)
    for y in range(10):
        for x in range(12):
            best, winner = np.inf, -1
            for k, corners in enumerate(triangles):
                matrix = np.vstack([points[corners, :2].T, np.ones(3)])
                weights = np.linalg.solve(matrix, [x, y, 1])
                depth = weights @ points[corners, 2]
                if weights.min() >= 0 and depth < best:
                    best, winner = depth, k
            assert raster.triangle[y, x] == winner


def test_nothing_in_sight() -> None:
    raster = rasterise([[50, 50, 0], [60, 50, 0], [50, 60, 0]], [[0, 1, 2]], 8, 8)
    assert not raster.covered.any()
