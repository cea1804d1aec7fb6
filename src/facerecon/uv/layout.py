"""The face layout: which surface point lives where in the UV square.

Convention:
    u runs right and v runs down, both in [0, 1] from the top left corner. Texel ``i`` of a map
    of ``size`` texels has its centre at ``(i + 1/2) / size``. The person's own left half of the
    face has u > 1/2; mirroring the face left to right is ``u -> 1 - u``.
    Canonical vertices are in centimetres: x to the person's left, y up, z out of the face.

    One worked number: texel 0 of a 64-texel map is at u = 0.0078125.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from facerecon.errors import LayoutError

__all__ = ["ICT_LAYOUT_EARLIER", "ICT_LAYOUT_SHA256", "REGION_WEIGHTS", "UVLayout"]

ICT_LAYOUT_SHA256 = "d06d1d76d1e80899ec2447b672e7fcda838d0b13165cc1fddb32af31b70401e0"
"""Digest of the packaged ICT layout, printed by tools/build_layout.py."""

ICT_LAYOUT_EARLIER = ("3d5cbfd1baa3eaad800c195926a59acb7161aa20e47f2f20e3a0c08fab193ceb",)
"""Layouts of the same position map whose canonical face looked up: weights for them still fit."""

REGION_WEIGHTS = (0.0, 3.0, 4.0)
"""Loss weight of region 0 (outside), 1 (face) and 2 (eyes, nose, mouth); landmarks weigh 16."""

_FIELDS = {
    "uv": (np.float32, 2),
    "triangles": (np.int32, 3),
    "mirror": (np.int32, 0),
    "landmark_vertices": (np.int32, 3),
    "landmark_weights": (np.float32, 3),
    "regions": (np.uint8, 0),
    "canonical": (np.float32, 3),
    "rigidity": (np.float32, 0),
    "source_index": (np.int32, 0),
}


@dataclass(frozen=True, eq=False)
class UVLayout:
    """A triangulated face chart with its 68 landmarks.

    Attributes:
        name: Short name, part of the layout's identity.
        uv: (v, 2) texture coordinates of the vertices.
        triangles: (t, 3) vertex indices, counter-clockwise seen from outside the face.
        mirror: (v,) index of each vertex's mirror image; empty where the layout has none.
        landmark_vertices: (68, 3) vertices of the triangle that carries each landmark.
        landmark_weights: (68, 3) barycentric weights in it.
        regions: (v,) 1 for face, 2 for eyes, nose and mouth.
        canonical: (v, 3) mean face, centimetres, canonical face axes: it looks along z, as people
            do who look into the camera.
        rigidity: (v,) in (0, 1], near 0 where expressions move the face: weights of pose fits.
        source_index: (v,) index of each vertex in the face model that the layout was cut from.
    """

    name: str
    uv: NDArray[np.float32]
    triangles: NDArray[np.int32]
    mirror: NDArray[np.int32]
    landmark_vertices: NDArray[np.int32]
    landmark_weights: NDArray[np.float32]
    regions: NDArray[np.uint8]
    canonical: NDArray[np.float32]
    rigidity: NDArray[np.float32]
    source_index: NDArray[np.int32] = field(repr=False)

    def __post_init__(self) -> None:
        count = len(self.uv)
        for key, (dtype, columns) in _FIELDS.items():
            array = getattr(self, key)
            if array.dtype != dtype or array.shape[1:] != ((columns,) if columns else ()):
                raise LayoutError(f"layout {self.name!r}: {key} is {array.dtype}{array.shape}")
            array.setflags(write=False)
        for key in ("regions", "canonical", "rigidity", "source_index"):
            if len(getattr(self, key)) != count:
                raise LayoutError(f"layout {self.name!r}: {key} does not have {count} rows")
        for key in ("triangles", "mirror", "landmark_vertices"):
            array = getattr(self, key)
            if array.size and (array.min() < 0 or array.max() >= count):
                raise LayoutError(f"layout {self.name!r}: {key} points outside its vertices")
        if len(self.mirror) not in (0, count):
            raise LayoutError(f"layout {self.name!r}: mirror has {len(self.mirror)} rows")
        if not (np.isfinite(self.uv).all() and self.uv.min() >= 0 and self.uv.max() <= 1):
            raise LayoutError(f"layout {self.name!r}: uv must lie in [0, 1]")

    @classmethod
    @lru_cache(maxsize=1)
    def ict(cls) -> UVLayout:
        """The packaged layout of the ICT face model, after checking its digest."""
        file = resources.files("facerecon") / "assets" / "layout_ict.safetensors"
        layout = cls._from_bytes("ict", file.read_bytes())
        if layout.digest != ICT_LAYOUT_SHA256:
            raise LayoutError(
                f"the packaged face layout has digest {layout.digest}, "
                f"{ICT_LAYOUT_SHA256} is expected: reinstall facerecon"
            )
        return layout

    @classmethod
    def from_prnet(cls, folder: str | Path) -> UVLayout:
        """PRNet's layout from its ``Data/uv-data`` files.

        Reads ``face_ind.txt`` (43 867 texels of the 256 x 256 map), ``triangles.txt``,
        ``uv_kpt_ind.txt`` (row 0 is x, row 1 is y) and ``canonical_vertices.npy``.

        Args:
            folder: Where those files lie.

        Raises:
            LayoutError: A file is missing or does not hold what its name says.
        """
        root = Path(folder)
        try:
            texels = np.loadtxt(root / "face_ind.txt").astype(np.int64)
            triangles = np.loadtxt(root / "triangles.txt").astype(np.int32)
            keypoints = np.loadtxt(root / "uv_kpt_ind.txt").astype(np.int64)
            canonical = np.load(root / "canonical_vertices.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise LayoutError(f"cannot read PRNet's layout from {root}: {error}") from error
        if keypoints.shape != (2, 68):
            raise LayoutError(f"uv_kpt_ind.txt is {keypoints.shape}, (2, 68) is needed")
        row, column = np.divmod(texels, 256)
        index_of = np.full(256 * 256, -1)
        index_of[texels] = np.arange(len(texels))
        landmarks = index_of[keypoints[1] * 256 + keypoints[0]]
        if (landmarks < 0).any():
            raise LayoutError("uv_kpt_ind.txt names texels that face_ind.txt does not list")
        regions = np.ones(len(texels), np.uint8)
        return cls(
            name="prnet",
            uv=((np.stack([column, row], 1) + 0.5) / 256).astype(np.float32),
            triangles=triangles,
            mirror=np.empty(0, np.int32),
            landmark_vertices=np.repeat(landmarks[:, None], 3, 1).astype(np.int32),
            landmark_weights=np.tile(np.array([1, 0, 0], np.float32), (68, 1)),
            regions=regions,
            canonical=canonical.astype(np.float32),
            rigidity=np.ones(len(texels), np.float32),
            source_index=texels.astype(np.int32),
        )

    @classmethod
    def load(cls, path: str | Path) -> UVLayout:
        """A layout that :meth:`save` wrote."""
        file = Path(path)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise LayoutError(f"cannot read the layout {file}: {error}") from error
        return cls._from_bytes(file.stem, content)

    @classmethod
    def _from_bytes(cls, name: str, content: bytes) -> UVLayout:
        try:
            arrays = load(content)
        except SafetensorError as error:
            raise LayoutError(f"layout {name!r} is not a safetensors file: {error}") from error
        if set(arrays) != set(_FIELDS):
            raise LayoutError(f"layout {name!r} holds {sorted(arrays)}, not {sorted(_FIELDS)}")
        return cls(name=name, **arrays)

    def save(self, path: str | Path) -> None:
        """Write the layout as safetensors."""
        save_file({key: np.ascontiguousarray(getattr(self, key)) for key in _FIELDS}, path)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, shapes and bytes of all arrays: the layout's identity."""
        digest = hashlib.sha256()
        for key, (dtype, _) in _FIELDS.items():
            little_endian = np.dtype(dtype).newbyteorder("<")
            array = np.ascontiguousarray(getattr(self, key)).astype(little_endian)
            digest.update(f"{key}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    @property
    def vertex_count(self) -> int:
        """Number of vertices."""
        return len(self.uv)

    @cached_property
    def landmark_uv(self) -> NDArray[np.float64]:
        """(68, 2) texture coordinates of the landmarks."""
        return self.landmarks_of(self.uv)

    def landmarks_of(self, values: ArrayLike) -> NDArray[np.float64]:
        """Interpolate per-vertex values (..., v, c) at the landmarks, (..., 68, c)."""
        array = np.asarray(values, dtype=np.float64)
        corners = array[..., self.landmark_vertices, :]
        picked: NDArray[np.float64] = (corners * self.landmark_weights[..., None]).sum(-2)
        return picked

    def mirrored(self, vertices: ArrayLike) -> NDArray[np.float64]:
        """The mirror image (x -> -x) of a face's vertices (v, 3)."""
        if not len(self.mirror):
            raise LayoutError(f"layout {self.name!r} has no mirror map")
        return np.asarray(vertices, dtype=np.float64)[self.mirror] * np.array([-1.0, 1.0, 1.0])
