"""Vertices to position map and back, at any map size.

Both directions are linear in the vertices, so each is one sparse matrix:
``encode`` interpolates inside triangles at texel centres and extrapolates a ring of two texels
round the chart and inside its holes; ``decode`` samples bilinearly at the vertices' uv.
The ring is there so that a bilinear sample at the chart's edge reads only meaningful texels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from facerecon.errors import LayoutError
from facerecon.uv.layout import REGION_WEIGHTS, UVLayout

__all__ = ["RING_TEXELS", "UVCodec", "codec_for", "sample_map"]

RING_TEXELS = 2
"""Width of the extrapolated ring round the chart, texels."""

LANDMARK_WEIGHT = 16.0
"""Loss weight of the texels that a landmark reads."""


@dataclass(frozen=True, eq=False)
class UVCodec:
    """Encoder and decoder of one layout at one map size.

    Attributes:
        layout: The face layout.
        size: Side of the position map, texels.
    """

    layout: UVLayout
    size: int

    def encode(self, vertices: ArrayLike) -> NDArray[np.float64]:
        """Per-vertex values to a map.

        Args:
            vertices: (v, c) values, such as positions.

        Returns:
            (size, size, c); 0 outside the chart and its ring.
        """
        values = np.asarray(vertices, dtype=np.float64)
        if values.ndim != 2 or len(values) != self.layout.vertex_count:
            raise LayoutError(
                f"vertices are {values.shape}, the layout {self.layout.name!r} "
                f"has {self.layout.vertex_count}"
            )
        encoded: NDArray[np.float64] = self.encode_matrix @ values
        return encoded.reshape(self.size, self.size, -1)

    def decode(self, position_map: ArrayLike) -> NDArray[np.float64]:
        """A map (size, size, c) to per-vertex values (v, c)."""
        return self._sample(self.decode_matrix, position_map)

    def decode_landmarks(self, position_map: ArrayLike) -> NDArray[np.float64]:
        """A map (size, size, c) to values at the 68 landmarks, (68, c)."""
        return self._sample(self.landmark_matrix, position_map)

    def _sample(self, matrix: sparse.csr_array, position_map: ArrayLike) -> NDArray[np.float64]:
        values = np.asarray(position_map, dtype=np.float64)
        if values.ndim != 3 or values.shape[:2] != (self.size, self.size):
            raise LayoutError(
                f"position map is {values.shape}, ({self.size}, {self.size}, c) is needed"
            )
        sampled: NDArray[np.float64] = matrix @ values.reshape(self.size**2, -1)
        return sampled

    @cached_property
    def encode_matrix(self) -> sparse.csr_array:
        """(size^2, v) sparse: texel values from vertex values."""
        texels, corners, weights = _rasterise(self.layout, self.size)
        rows = np.repeat(texels, 3)
        shape = (self.size**2, self.layout.vertex_count)
        inside = sparse.csr_array((weights.ravel(), (rows, corners.ravel())), shape=shape)
        valid = np.zeros(self.size**2, bool)
        valid[texels] = True
        matrix = inside
        for _ in range(RING_TEXELS):
            step, valid = _extrapolation(valid.reshape(self.size, self.size))
            matrix = sparse.csr_array(step @ matrix)
        matrix.sort_indices()
        return matrix

    @cached_property
    def chart(self) -> NDArray[np.bool_]:
        """(size, size) True where a texel's centre lies inside a triangle."""
        texels, _, _ = _rasterise(self.layout, self.size)
        mask = np.zeros(self.size**2, bool)
        mask[texels] = True
        return mask.reshape(self.size, self.size)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(size, size) True on the chart and its ring."""
        filled = np.diff(self.encode_matrix.indptr) > 0
        return filled.reshape(self.size, self.size)

    @cached_property
    def decode_matrix(self) -> sparse.csr_array:
        """(v, size^2) sparse: bilinear samples at the vertices' uv."""
        return _bilinear(self.layout.uv, self.size)

    @cached_property
    def landmark_matrix(self) -> sparse.csr_array:
        """(68, size^2) sparse: bilinear samples at the landmarks' uv."""
        return _bilinear(self.layout.landmark_uv, self.size)

    @cached_property
    def weights(self) -> NDArray[np.float32]:
        """(size, size) loss weights: landmarks 16, eyes, nose and mouth 4, face 3, outside 0.

        PRNet's ratios (Feng et al., ECCV 2018). A landmark's weight lies on the four texels that
        a bilinear sample there reads. The ring weighs as the face does: samples read it too.
        """
        regions = self.encode_matrix @ (self.layout.regions.astype(np.float64))
        mask = self.mask.ravel()
        weights = np.where(mask, REGION_WEIGHTS[1], REGION_WEIGHTS[0])
        weights[mask & (regions >= 1.5)] = REGION_WEIGHTS[2]
        weights[np.unique(self.landmark_matrix.indices)] = LANDMARK_WEIGHT
        return weights.reshape(self.size, self.size).astype(np.float32)

    @cached_property
    def grid_triangles(self) -> NDArray[np.int32]:
        """Triangles between neighbouring chart texels, (t, 3) indices into the chart's texels.

        Texels are numbered in reading order over ``chart``; triangles are counter-clockwise
        seen from outside the face, like the layout's own.
        """
        number = np.full(self.size**2, -1)
        flat = self.chart.ravel()
        number[flat] = np.arange(flat.sum())
        grid = number.reshape(self.size, self.size)
        a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]
        faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, d, b), (b, d, c))])
        kept: NDArray[np.int32] = faces[(faces >= 0).all(1)].astype(np.int32)
        return kept

    @cached_property
    def grid_uv(self) -> NDArray[np.float64]:
        """(n, 2) uv of the chart's texels, in reading order."""
        row, column = np.nonzero(self.chart)
        return (np.stack([column, row], 1) + 0.5) / self.size


@lru_cache(maxsize=8)
def codec_for(layout: UVLayout, size: int) -> UVCodec:
    """The codec of a layout at a size; the last few are kept, since their matrices are costly."""
    return UVCodec(layout, size)


def sample_map(position_map: ArrayLike, uv: ArrayLike) -> NDArray[np.float64]:
    """A map (size, size, c) sampled bilinearly at uv (n, 2), giving (n, c)."""
    values = np.asarray(position_map, dtype=np.float64)
    size = values.shape[0]
    sampled: NDArray[np.float64] = _bilinear(uv, size) @ values.reshape(size**2, -1)
    return sampled


def _rasterise(
    layout: UVLayout, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Texels whose centres lie in a triangle, with that triangle's corners and weights."""
    corner_xy = layout.uv.astype(np.float64)[layout.triangles] * size - 0.5
    low = np.ceil(corner_xy.min(1) - 1e-9).astype(int).clip(0, size)
    high = np.floor(corner_xy.max(1) + 1e-9).astype(int).clip(-1, size - 1)
    span = (high - low + 1).clip(0)
    count = span.prod(1)
    which = np.repeat(np.arange(len(count)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    column = low[which, 0] + within % span[which, 0]
    row = low[which, 1] + within // span[which, 0]
    a, b, c = (corner_xy[which, k] for k in range(3))
    point = np.stack([column, row], 1).astype(np.float64)
    area = _cross(b - a, c - a)
    usable = np.abs(area) > 1e-12
    area = np.where(usable, area, 1.0)
    weights = np.stack([_cross(b - point, c - point), _cross(c - point, a - point)], 1)
    weights = weights / area[:, None]
    weights = np.column_stack([weights, 1.0 - weights.sum(1)])
    inside = usable & (weights.min(1) > -1e-7)
    texels = (row * size + column)[inside]
    texels, first = np.unique(texels, return_index=True)
    chosen = which[inside][first]
    clipped = weights[inside][first].clip(0)
    return texels, layout.triangles[chosen], clipped / clipped.sum(1, keepdims=True)


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _extrapolation(valid: NDArray[np.bool_]) -> tuple[sparse.csr_array, NDArray[np.bool_]]:
    """One more ring: each new texel is the mean of 2a - b over the directions that allow it.

    a is a valid neighbour and b the valid texel behind it; where no direction has both, the
    mean of the valid neighbours is taken.
    """
    size = valid.shape[0]
    padded = np.pad(valid, 2)
    directions = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]

    def shifted(i: int, j: int) -> NDArray[np.bool_]:
        return padded[2 + i : 2 + i + size, 2 + j : 2 + j + size]

    near = np.stack([shifted(i, j) for i, j in directions])
    far = near & np.stack([shifted(2 * i, 2 * j) for i, j in directions])
    new = ~valid & near.any(0)
    linear = np.asarray(far.any(0))
    use = np.where(linear, far, near)
    share = 1.0 / use.sum(0).clip(1)
    keep = np.flatnonzero(valid)
    rows, columns, values = [keep], [keep], [np.ones(len(keep))]
    for k, (i, j) in enumerate(directions):
        y, x = np.nonzero(new & use[k])
        is_linear = linear[y, x]
        rows.append(y * size + x)
        columns.append((y + i) * size + x + j)
        values.append(share[y, x] * np.where(is_linear, 2.0, 1.0))
        y, x = y[is_linear], x[is_linear]
        rows.append(y * size + x)
        columns.append((y + 2 * i) * size + x + 2 * j)
        values.append(-share[y, x])
    data = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_array(data, shape=(size**2, size**2)), valid | new


def _bilinear(uv: ArrayLike, size: int) -> sparse.csr_array:
    """Sparse (n, size^2) bilinear sampling at uv (n, 2); the map's edge is repeated."""
    xy = np.clip(np.asarray(uv, dtype=np.float64) * size - 0.5, 0, size - 1)
    low = np.minimum(np.floor(xy).astype(int), size - 2)
    fx, fy = (xy - low).T
    x, y = low.T
    rows = np.repeat(np.arange(len(xy)), 4)
    columns = np.stack(
        [y * size + x, y * size + x + 1, (y + 1) * size + x, (y + 1) * size + x + 1], 1
    )
    values = np.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], 1)
    matrix = sparse.csr_array((values.ravel(), (rows, columns.ravel())), shape=(len(xy), size**2))
    matrix.eliminate_zeros()
    return matrix
