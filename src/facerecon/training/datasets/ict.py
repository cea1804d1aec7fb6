"""Photos with fitted ICT face models: ``labels.npz``, ``photos_<source>.tar``, ``ict_face.npz``.

Convention:
    ``image = s R X + t`` takes the model's vertices X (centimetres, canonical face axes) to photo
    pixels with z into the scene; X = mean + identity + expression directions.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerecon.errors import DataError
from facerecon.uv import UVLayout

__all__ = ["FaceLabels", "MorphableModel", "read_labels", "read_photos"]


@dataclass(frozen=True)
class FaceLabels:
    """Fitted faces, one row per photo.

    Attributes:
        path: (n,) member names in the photo archives.
        source: (n,) data set names.
        split: (n,) ``train`` or ``val``.
        good: (n,) whether the fit agrees with its points.
        yaw: (n,) degrees, positive when the nose turns to the person's own left.
        rotation: (n, 3, 3) from canonical face axes to the camera.
        scale: (n,) pixels per centimetre.
        translation: (n, 3) pixels.
        identity: (n, i) coefficients.
        expression: (n, e) coefficients.
        hand_points: (n, 68, 2) hand-made points, NaN where hidden or missing.
        hand_count: (n,) how many of them the data set defines.
    """

    path: NDArray[np.str_]
    source: NDArray[np.str_]
    split: NDArray[np.str_]
    good: NDArray[np.bool_]
    yaw: NDArray[np.float32]
    rotation: NDArray[np.float32]
    scale: NDArray[np.float32]
    translation: NDArray[np.float32]
    identity: NDArray[np.float32]
    expression: NDArray[np.float32]
    hand_points: NDArray[np.float32]
    hand_count: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.path)

    def take(self, rows: ArrayLike) -> FaceLabels:
        """The rows of an index or boolean mask."""
        index = np.asarray(rows)
        return FaceLabels(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def read_labels(folder: str | Path) -> FaceLabels:
    """Read ``labels.npz``.

    Raises:
        DataError: It is missing, a field is missing or has another length, or a pose is not
            finite or not a rotation; the file and the first bad row are named.
    """
    file = Path(folder) / "labels.npz"
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {f.name: archive[f.name] for f in fields(FaceLabels)}
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"cannot read labels from {file}: {error}") from error
    count = len(arrays["path"])
    for name, array in arrays.items():
        if len(array) != count:
            raise DataError(f"{file}: {name} has {len(array)} rows, path has {count}")
        if array.dtype == np.float16:
            arrays[name] = array.astype(np.float32)
    for name in ("rotation", "scale", "translation", "identity", "expression"):
        wrong = ~np.isfinite(arrays[name].reshape(count, -1)).all(1)
        if wrong.any():
            raise DataError(f"{file}: {name} of {arrays['path'][wrong][0]} is not finite")
    wrong = np.abs(np.linalg.det(arrays["rotation"]) - 1) > 1e-3
    if wrong.any():
        raise DataError(f"{file}: rotation of {arrays['path'][wrong][0]} is no rotation")
    return FaceLabels(**arrays)


def read_photos(folder: str | Path, paths: ArrayLike) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Photos named by ``paths``, in the archives' order.

    Args:
        folder: Where ``photos_<source>.tar`` lie.
        paths: (n,) member names ``<source>/<file>``.

    Yields:
        The index into ``paths`` and the (h, w, 3) RGB uint8 photo.

    Raises:
        DataError: An archive or a member is missing, or a photo is unreadable.
    """
    names = np.asarray(paths)
    row = {str(name): i for i, name in enumerate(names)}
    for source in sorted({name.split("/")[0] for name in row}):
        archive = Path(folder) / f"photos_{source}.tar"
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    index = row.pop(member.name, None)
                    stream = tar.extractfile(member) if index is not None else None
                    if index is None or stream is None:
                        continue
                    data = np.frombuffer(stream.read(), np.uint8)
                    photo = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
                    if photo is None:
                        raise DataError(f"{archive}: {member.name} is no readable picture")
                    yield index, np.asarray(photo, dtype=np.uint8)
        except (OSError, tarfile.TarError) as error:
            raise DataError(f"cannot read {archive}: {error}") from error
    if row:
        raise DataError(
            f"{len(row)} photos are in no archive of {folder}, such as {next(iter(row))}"
        )


@dataclass(frozen=True)
class MorphableModel:
    """The face model's mean and directions on a layout's vertices.

    Attributes:
        mean: (v, 3) centimetres.
        identity: (i, v, 3).
        expression: (e, v, 3).
    """

    mean: NDArray[np.float32]
    identity: NDArray[np.float32]
    expression: NDArray[np.float32]

    @classmethod
    def load(cls, path: str | Path, layout: UVLayout, identities: int) -> MorphableModel:
        """Read ``ict_face.npz`` at a layout's vertices, with the first identity directions.

        Raises:
            DataError: The file is missing or is not this face model.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                index = layout.source_index
                return cls(
                    archive["vertices"][index].astype(np.float32),
                    archive["identity"][:identities, index].astype(np.float32),
                    archive["expression"][:, index].astype(np.float32),
                )
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise DataError(f"cannot read the face model {path}: {error}") from error

    @property
    def basis(self) -> NDArray[np.float32]:
        """(i + e, v, 3) identity, then expression directions."""
        return np.concatenate([self.identity, self.expression])

    def vertices(self, identity: ArrayLike, expression: ArrayLike) -> NDArray[np.float64]:
        """Vertices (v, 3) in centimetres of one face's coefficients."""
        moved: NDArray[np.float64] = (
            self.mean
            + np.tensordot(np.asarray(identity, np.float64), self.identity, 1)
            + np.tensordot(np.asarray(expression, np.float64), self.expression, 1)
        )
        return moved
