"""Face-model parameters from landmarks: batched Gauss-Newton under weak perspective.

Minimises, for each face,

    sum_k w_k rho(|s R X_k(a, b) + t - p_k|^2 / sigma^2) + |a|^2 + |b / 0.3|^2

over scale s, rotation R, translation t, identity a and expression b in [-0.1, 1], with X_k the
face model at point k and rho Cauchy's robust loss, rewritten in every iteration as weights on a
quadratic (iteratively reweighted least squares). The rotation is updated by exp([w]x) R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from facerecon.errors import DataError

__all__ = ["FaceFit", "FaceFitter", "PointSet"]

_EXPRESSION_RANGE = (-0.1, 1.0)
_EXPRESSION_SPREAD = 0.3


@dataclass(frozen=True)
class PointSet:
    """Where on the face model a kind of points lies, and how far to trust it.

    Attributes:
        triangles: (k, 3) vertices of the model.
        weights: (k, 3) barycentric weights.
        sigma: Expected error of a point, share of the face's size sqrt(w h).
        redundancy: How many points err together, and so count as one.
        hidden: Trust in points on the far side of the face, 0 to 1: 1 where they are known in 3D,
            0 where they follow the visible edge or are guessed.
        depth: Trust in z beside x and y, 0 to 1; 0 for 2D points.
    """

    triangles: NDArray[np.int64]
    weights: NDArray[np.float64]
    sigma: float
    depth: float
    redundancy: float = 1.0
    hidden: float = 1.0

    @classmethod
    def landmarks68(cls, model: str | Path, depth: float) -> PointSet:
        """300-W's 68 points, at ``landmarks68_300w_*`` of the face model's file."""
        with _opened(model) as archive:
            triangles = archive["landmarks68_300w_triangles"].astype(np.int64)
            weights = archive["landmarks68_300w_barycentric"].astype(np.float64)
        return cls(triangles, weights, 0.02, depth, hidden=float(depth > 0))

    @classmethod
    def mediapipe468(cls, file: str | Path, depth: float = 0.1) -> PointSet:
        """MediaPipe's 468 points, from their correspondence ``tri``, ``bary`` to the model.

        Neighbours among so many points err together, so each is trusted less than a landmark.
        """
        with _opened(file) as archive:
            triangles, weights = archive["tri"].astype(np.int64), archive["bary"]
        return cls(triangles, weights.astype(np.float64), 0.03, depth, 20.0, hidden=0.0)


def _opened(file: str | Path) -> np.lib.npyio.NpzFile:
    try:
        archive: np.lib.npyio.NpzFile = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    return archive


@dataclass(frozen=True)
class FaceFit:
    """Fitted faces: ``image = s R X + t``, z into the scene.

    Attributes:
        rotation: (n, 3, 3) from canonical face axes to the camera.
        scale: (n,) pixels per centimetre.
        translation: (n, 3) pixels.
        identity: (n, i).
        expression: (n, e).
        residual: (n,) mean distance in x, y of the points that were given, percent of sqrt(w h) of
            their box.
    """

    rotation: NDArray[np.float64]
    scale: NDArray[np.float64]
    translation: NDArray[np.float64]
    identity: NDArray[np.float64]
    expression: NDArray[np.float64]
    residual: NDArray[np.float64]


class FaceFitter:
    """Fits one face model to points of one or several kinds at once.

    Args:
        model: File of the ICT face model.
        sets: The kinds of points.
        identities: Identity directions in use.
        iterations: Gauss-Newton steps.
    """

    def __init__(
        self,
        model: str | Path,
        sets: Sequence[PointSet],
        identities: int = 80,
        iterations: int = 14,
    ) -> None:
        self.sets, self.iterations, self.identities = list(sets), iterations, identities
        try:
            with _opened(model) as archive:
                vertices = archive["vertices"]
                basis = np.concatenate([archive["identity"][:identities], archive["expression"]])
                names = list(archive.get("expression_names", []))
                corners = archive["quads"][:, [0, 1, 2]] if "quads" in archive else None
        except KeyError as error:
            raise DataError(f"{model} is no ICT face model: {error}") from error
        normals = _normals(vertices, corners)
        pick = [_at(kind, vertices) for kind in self.sets]
        self._mean = torch.from_numpy(np.concatenate(pick)).float()
        self._basis = torch.from_numpy(
            np.concatenate([_at(kind, basis.astype(np.float32)) for kind in self.sets], 1)
        ).float()
        self._normal = torch.from_numpy(
            np.concatenate([_at(kind, normals) for kind in self.sets])
        ).float()
        each = [(k.sigma, k.depth, 1 / (k.sigma**2 * k.redundancy), k.hidden) for k in self.sets]
        counts = [len(k.triangles) for k in self.sets]
        spread = np.repeat(np.array(each, np.float32), counts, axis=0)
        self._sigma, self._depth, self._trust, self._hidden = torch.from_numpy(spread).unbind(1)
        # the gaze is not seen in the skin: its directions stay at 0
        expressions = len(basis) - identities
        gaze = [str(name).startswith("eyeLook") for name in names] or [False] * expressions
        prior = np.concatenate(
            [np.ones(identities), np.where(gaze, 1e4, 1 / _EXPRESSION_SPREAD**2)]
        )
        self._prior = torch.from_numpy(prior).double()

    def fit(
        self, points: Sequence[ArrayLike], weights: Sequence[ArrayLike] | None = None
    ) -> FaceFit:
        """Fit faces.

        Args:
            points: For each kind (n, k, 2) or (n, k, 3) pixels, z into the scene; NaN where a
                point is missing.
            weights: For each kind (n, k), 1 by default.

        Raises:
            DataError: Shapes do not fit the kinds, or a face has fewer than six points.
        """
        arrays = [np.asarray(p, np.float64) for p in points]
        for kind, array in zip(self.sets, arrays, strict=True):
            if (
                array.ndim != 3
                or array.shape[1] != len(kind.triangles)
                or array.shape[2] not in (2, 3)
            ):
                raise DataError(
                    f"points are {array.shape}; (n, {len(kind.triangles)}, 2 or 3) is needed"
                )
        full = np.concatenate(
            [
                a
                if a.shape[2] == 3
                else np.pad(a, ((0, 0), (0, 0), (0, 1)), constant_values=np.nan)
                for a in arrays
            ],
            1,
        )
        known = np.isfinite(full[:, :, :2]).all(2)
        if (known.sum(1) < 6).any():
            raise DataError(f"face {int(np.argmin(known.sum(1)))} has fewer than six points")
        given = np.ones(known.shape) if weights is None else np.concatenate(weights, 1)
        given = np.where(known, given, 0.0)
        parts = [self._fit(full[i : i + 64], given[i : i + 64]) for i in range(0, len(full), 64)]
        return FaceFit(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    @torch.no_grad()
    def _fit(
        self, full: NDArray[np.float64], given: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], ...]:
        xy = np.where(given[..., None] > 0, full[:, :, :2], np.nan)
        low, high = np.nanmin(xy, 1), np.nanmax(xy, 1)
        size = np.sqrt((high - low).clip(1e-6).prod(1))
        middle = np.column_stack([(low + high) / 2, np.zeros(len(full))])
        depth = np.nan_to_num(full[:, :, 2])
        seen_z = torch.from_numpy(np.isfinite(full[:, :, 2]) & (given > 0)).float()
        mean_z = (depth * seen_z.numpy()).sum(1) / seen_z.numpy().sum(1).clip(1)
        middle[:, 2] = mean_z
        target = torch.from_numpy(
            np.nan_to_num((full - middle[:, None]) / size[:, None, None])
        ).float()
        weight = torch.from_numpy(given).float()
        # importance of x, y, z of each point
        trust = torch.stack([weight, weight, weight * seen_z * self._depth], 2)
        trust = trust * self._trust[None, :, None]

        rotation, scale, shift = _rigid(self._mean, target, weight)
        count = len(self._basis)
        c = torch.zeros(len(full), count)
        for step in range(self.iterations):
            shape = self._mean + torch.einsum("nc,ckd->nkd", c, self._basis)
            turned = scale[:, None, None] * shape @ rotation.transpose(1, 2)
            error = turned + shift[:, None] - target
            robust = trust
            if step >= 3:
                off = (error[:, :, :2] ** 2).sum(2) / (3 * self._sigma) ** 2
                away = (rotation[:, 2] @ self._normal.T) > 0.25  # normals point into the scene
                share = torch.where(away, self._hidden, 1.0) / (1 + off)
                robust = trust * share[:, :, None].clamp(min=1e-4)
            jacobian = self._jacobian(turned, scale, rotation)
            weighted = jacobian * robust[..., None]
            normal = torch.einsum("nkdp,nkdq->npq", weighted, jacobian).double()
            right = -torch.einsum("nkdp,nkd->np", weighted, error).double()
            normal[:, 7:, 7:] += torch.diag(self._prior)
            right[:, 7:] -= self._prior * c.double()
            diagonal = normal.diagonal(dim1=1, dim2=2)
            diagonal += 1e-6 * diagonal + 1e-9
            move = torch.linalg.solve(normal, right).float()
            rotation = torch.linalg.matrix_exp(_cross(move[:, :3])) @ rotation
            scale = scale * torch.exp(move[:, 3].clamp(-0.5, 0.5))
            shift = shift + move[:, 4:7]
            c = c + move[:, 7:]
            c[:, self.identities :] = c[:, self.identities :].clamp(*_EXPRESSION_RANGE)
        shape = self._mean + torch.einsum("nc,ckd->nkd", c, self._basis)
        placed = scale[:, None, None] * shape @ rotation.transpose(1, 2) + shift[:, None]
        off = (placed - target)[:, :, :2].norm(dim=2) * (weight > 0)
        residual = 100 * off.sum(1) / (weight > 0).sum(1)
        # float32 steps drift from a rotation by their rounding: take the nearest one
        u, _, vt = torch.linalg.svd(rotation.double())
        exact = (u @ vt).numpy()
        translation = shift.double().numpy() * size[:, None] + middle
        both = c.double().numpy()
        return (
            exact,
            scale.double().numpy() * size,
            translation,
            both[:, : self.identities],
            both[:, self.identities :],
            residual.double().numpy(),
        )

    def _jacobian(self, turned: Tensor, scale: Tensor, rotation: Tensor) -> Tensor:
        """(n, k, 3, 7 + c): turn, log scale, shift, coefficients."""
        n, k, _ = turned.shape
        coefficients = torch.einsum("nij,ckj->nkic", scale[:, None, None] * rotation, self._basis)
        eye = torch.eye(3).expand(n, k, 3, 3)
        return torch.cat([-_cross(turned), turned[..., None], eye, coefficients], 3)


def _at(kind: PointSet, values: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Per-vertex values (..., v, 3) at a kind's points, (..., k, 3)."""
    picked: NDArray[np.float64] = np.einsum(
        "...kcd,kc->...kd", values[..., kind.triangles, :], kind.weights
    )
    return picked


def _normals(
    vertices: NDArray[np.float32], corners: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Unit normals out of the face; all forward for a model without surfaces."""
    from facerecon.geometry import vertex_normals

    if corners is None:
        return np.tile([0.0, 0.0, 1.0], (len(vertices), 1))
    normals = vertex_normals(vertices, corners)
    front = normals[np.argmax(vertices[:, 2]), 2]
    return normals if front >= 0 else -normals


def _cross(vectors: Tensor) -> Tensor:
    """(..., 3) to the matrices (..., 3, 3) with ``_cross(a) @ b = a x b``."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def _rigid(mean: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """First guess from x and y: an affine camera by least squares, made orthonormal."""
    ones = torch.cat([mean, torch.ones(len(mean), 1)], 1)
    normal = torch.einsum("nk,ki,kj->nij", weight, ones, ones).double()
    normal += 1e-6 * torch.eye(4) * normal.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    right = torch.einsum("nk,ki,nkd->nid", weight, ones, target[:, :, :2]).double()
    affine = torch.linalg.solve(normal, right).transpose(1, 2)
    u, singular, vt = torch.linalg.svd(affine[:, :, :3], full_matrices=False)
    two = u @ vt
    rotation = torch.cat([two, torch.linalg.cross(two[:, 0], two[:, 1])[:, None]], 1)
    shift = torch.cat([affine[:, :, 3], torch.zeros(len(affine), 1)], 1)
    return rotation.float(), singular.mean(1).float(), shift.float()
