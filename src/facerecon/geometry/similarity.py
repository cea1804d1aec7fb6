"""The similarity transform that best maps one point set onto another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Similarity", "umeyama"]


@dataclass(frozen=True)
class Similarity:
    """``target = scale * rotation @ source + translation``.

    Attributes:
        scale: Positive factor.
        rotation: (d, d) proper rotation.
        translation: (d,) in target units.
    """

    scale: float
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]

    def apply(self, points: ArrayLike) -> NDArray[np.float64]:
        """Transform (n, d) points."""
        moved: NDArray[np.float64] = (
            self.scale * np.asarray(points, dtype=np.float64) @ self.rotation.T + self.translation
        )
        return moved

    def inverse(self) -> Similarity:
        """The transform that takes targets back to sources."""
        back = self.rotation.T
        return Similarity(1.0 / self.scale, back, -(back @ self.translation) / self.scale)


def umeyama(source: ArrayLike, target: ArrayLike, weights: ArrayLike | None = None) -> Similarity:
    """Weighted least-squares similarity between corresponding points.

    Minimises ``sum_i w_i |target_i - s R source_i - t|^2`` over s > 0, proper rotations R and t
    (Umeyama, IEEE TPAMI 13(4), 1991, eq. 40-42).

    Args:
        source: (n, d) points.
        target: (n, d) points.
        weights: (n,) non-negative weights; all ones by default.

    Returns:
        The similarity ``target_from_source``.

    Raises:
        ValueError: Shapes differ, or all weighted source points coincide.
    """
    a = np.asarray(source, dtype=np.float64)
    b = np.asarray(target, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"source {a.shape} and target {b.shape} must be the same (n, d)")
    w = np.ones(len(a)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (len(a),) or (w < 0).any() or w.sum() <= 0:
        raise ValueError(f"weights must be ({len(a)},), non-negative and not all zero")
    w = w / w.sum()
    mean_a, mean_b = w @ a, w @ b
    centred_a, centred_b = a - mean_a, b - mean_b
    variance = float(w @ (centred_a**2).sum(1))
    if variance <= 0:
        raise ValueError("all weighted source points coincide: no similarity is defined")
    u, singular, vt = np.linalg.svd((centred_b * w[:, None]).T @ centred_a)
    signs = np.ones(a.shape[1])
    signs[-1] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = (u * signs) @ vt
    scale = float(singular @ signs) / variance
    return Similarity(scale, rotation, mean_b - scale * rotation @ mean_a)
