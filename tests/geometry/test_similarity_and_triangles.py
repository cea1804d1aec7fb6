from __future__ import annotations

import numpy as np
import pytest

from facerecon.geometry import matrix_from_euler, umeyama, vertex_normals


def test_umeyama_recovers_random_similarities_and_inverts_them() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        source = rng.normal(size=(20, 3))
        rotation = matrix_from_euler(*rng.uniform(-90, 90, 3))
        scale, shift = rng.uniform(0.1, 50), rng.normal(size=3) * 100
        target = scale * source @ rotation.T + shift
        fit = umeyama(source, target, rng.uniform(0.1, 1, 20))
        np.testing.assert_allclose(fit.rotation, rotation, atol=1e-9)
        assert fit.scale == pytest.approx(scale)
        np.testing.assert_allclose(fit.apply(source), target, atol=1e-7)
        np.testing.assert_allclose(fit.inverse().apply(target), source, atol=1e-9)


def test_umeyama_never_reflects() -> None:
    source = np.random.default_rng(1).normal(size=(30, 3))
    fit = umeyama(source, source * [-1, 1, 1])
    assert np.linalg.det(fit.rotation) == pytest.approx(1)


def test_weight_zero_means_not_there() -> None:
    source = np.random.default_rng(2).normal(size=(10, 3))
    target = source + [1.0, 2, 3]
    target[0] += 100
    weights = np.ones(10)
    weights[0] = 0
    np.testing.assert_allclose(umeyama(source, target, weights).translation, [1, 2, 3], atol=1e-9)


@pytest.mark.parametrize("weights", [None, -np.ones(4), np.zeros(4), np.ones(3)])
def test_umeyama_refuses_what_has_no_answer(weights) -> None:
    with pytest.raises(ValueError, match=r"weights|coincide"):
        umeyama(np.ones((4, 3)), np.zeros((4, 3)), weights)


def test_normals_of_a_sphere_point_outwards() -> None:
    import trimesh

    sphere = trimesh.creation.icosphere(3)
    normals = vertex_normals(sphere.vertices, sphere.faces)
    np.testing.assert_allclose((normals * sphere.vertices).sum(1), 1, atol=1e-3)


def test_lonely_vertices_have_no_normal() -> None:
    normals = vertex_normals([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]], [[0, 1, 2]])
    np.testing.assert_array_equal(normals[[0, 3]], [[0, 0, 1], [0, 0, 0]])
