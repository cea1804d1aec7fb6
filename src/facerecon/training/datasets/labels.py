"""A data folder: photos, the face models fitted to them, and the face model itself.

    labels.npz            one row per photo, see :class:`FaceLabels`
    photos_<anything>.tar JPEG photos; member names are the ``path`` of labels.npz
    face_model.npz        mean, identity and expression directions (or ict_face.npz)
    layout.safetensors    the face layout of another model than ICT; absent for ICT

Convention:
    ``image = s R X + t`` takes the model's vertices X (centimetres, canonical face axes) to photo
    pixels with z into the scene; X = mean + identity + expression directions.
"""

from __future__ import annotations

import sys
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from facerecon.errors import DataError
from facerecon.uv import UVLayout

__all__ = [
    "BadData",
    "FaceLabels",
    "MorphableModel",
    "model_file",
    "read_labels",
    "read_layout",
    "read_photos",
    "skip_or_refuse",
    "write_labels",
]

BadData = Literal["refuse", "skip"]
"""What happens to a bad row: the whole data are refused, or the row is named and left out."""


def skip_or_refuse(bad: BadData, message: str) -> None:
    """Name a bad row on stderr, or raise ``DataError`` with it."""
    if bad == "refuse":
        raise DataError(f"{message} (bad_data = 'skip' leaves such rows out)")
    tqdm.write(f"facerecon: left out: {message}", file=sys.stderr)


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
        residual: (n,) mean distance between the fit and the points it was made from, percent of
            the box; NaN where unknown.
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
    residual: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.path)

    def take(self, rows: ArrayLike) -> FaceLabels:
        """The rows of an index or boolean mask."""
        index = np.asarray(rows)
        return FaceLabels(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @classmethod
    def concatenate(cls, parts: Sequence[FaceLabels]) -> FaceLabels:
        """The rows of several labels, in order."""
        return cls(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        )


_RESIDUALS = ("residual_hand", "residual_network")


def read_labels(folder: str | Path, bad: BadData = "refuse") -> FaceLabels:
    """Read ``labels.npz``.

    Args:
        folder: The data folder.
        bad: What to do about a row whose numbers are not finite or whose rotation is none;
            skipped rows stay in place with ``good`` False.

    Raises:
        DataError: It is missing, a field is missing or has another length, or a row is bad and
            ``bad`` is ``refuse``; the file and the row are named.
    """
    file = Path(folder) / "labels.npz"
    names = [f.name for f in fields(FaceLabels) if f.name != "residual"]
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in names}
            residuals = [archive[n] for n in ("residual", *_RESIDUALS) if n in archive]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"cannot read labels from {file}: {error}") from error
    count = len(arrays["path"])
    for name, array in arrays.items():
        if len(array) != count:
            raise DataError(f"{file}: {name} has {len(array)} rows, path has {count}")
        if array.dtype == np.float16:
            arrays[name] = array.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows of NaN only: unknown
        arrays["residual"] = (
            np.nanmean(residuals, axis=0).astype(np.float32)
            if residuals
            else np.full(count, np.nan, np.float32)
        )
    labels = FaceLabels(**arrays)
    reasons = _bad_rows(labels)
    for row, reason in reasons.items():
        skip_or_refuse(bad, f"{labels.path[row]} of {file}: {reason}")
    return _without(labels, np.array(sorted(reasons), int)) if reasons else labels


def _bad_rows(labels: FaceLabels) -> dict[int, str]:
    """Rows that cannot be used, and why."""
    count = len(labels)
    reasons: dict[int, str] = {}
    for name in ("rotation", "scale", "translation", "identity", "expression", "yaw"):
        finite = np.isfinite(getattr(labels, name).reshape(count, -1)).all(1)
        reasons |= {int(i): f"{name} is not finite" for i in np.flatnonzero(~finite)}
    rotation = np.where(np.isfinite(labels.rotation), labels.rotation, 0).astype(np.float64)
    square = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    wrong = (square > 1e-3) | (np.abs(np.linalg.det(rotation) - 1) > 1e-3)
    for i in np.flatnonzero(wrong):
        reasons.setdefault(int(i), "rotation is no rotation")
    for i in np.flatnonzero(labels.scale <= 0):
        reasons.setdefault(int(i), "scale is not positive")
    return reasons


def _without(labels: FaceLabels, rows: NDArray[np.int64]) -> FaceLabels:
    """The labels with some rows marked as not good, and harmless numbers in them."""
    good = labels.good.copy()
    good[rows] = False
    changed: dict[str, Any] = {"good": good}
    for name in ("rotation", "scale", "translation", "identity", "expression", "yaw"):
        array = getattr(labels, name).copy()
        array[rows] = 0
        changed[name] = array
    changed["rotation"][rows] = np.eye(3)
    changed["scale"][rows] = 1
    return replace(labels, **changed)


def write_labels(labels: FaceLabels, file: str | Path) -> None:
    """Write labels as ``labels.npz``, aside first, then moved in place."""
    target = Path(file)
    unfinished = target.with_suffix(".partial.npz")
    np.savez_compressed(unfinished, **{f.name: getattr(labels, f.name) for f in fields(labels)})
    unfinished.replace(target)


def model_file(folder: str | Path) -> Path:
    """The face model of a data folder.

    Raises:
        DataError: There is none.
    """
    for name in ("face_model.npz", "ict_face.npz"):
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise DataError(f"{folder} holds no face model: face_model.npz or ict_face.npz is needed")


def read_layout(folder: str | Path) -> UVLayout:
    """The face layout of a data folder: its own, or ICT's."""
    own = Path(folder) / "layout.safetensors"
    return UVLayout.load(own) if own.is_file() else UVLayout.ict()


def read_photos(
    folder: str | Path, paths: ArrayLike, bad: BadData = "refuse"
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Photos named by ``paths``, in the archives' order.

    Args:
        folder: Where ``photos_<anything>.tar`` lie.
        paths: (n,) member names; one that occurs several times is given for each.
        bad: What to do about missing and unreadable photos; skipped ones are not yielded.

    Yields:
        The index into ``paths`` and the (h, w, 3) RGB uint8 photo.

    Raises:
        DataError: An archive or a member is missing, or a photo is unreadable.
    """
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(np.asarray(paths)):
        rows.setdefault(str(name), []).append(i)
    archives = sorted(Path(folder).glob("photos_*.tar"))
    if not archives:
        raise DataError(f"{folder} holds no photos_*.tar")
    for archive in archives:
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    wanted = rows.pop(member.name, None)
                    stream = tar.extractfile(member) if wanted is not None else None
                    if wanted is None or stream is None:
                        continue
                    data = np.frombuffer(stream.read(), np.uint8)
                    photo = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
                    if photo is None:
                        skip_or_refuse(bad, f"{archive}: {member.name} is no readable picture")
                        continue
                    for index in wanted:
                        yield index, np.asarray(photo, dtype=np.uint8)
        except (OSError, tarfile.TarError) as error:
            raise DataError(f"cannot read {archive}: {error}") from error
    for name in rows:
        skip_or_refuse(bad, f"{name} is in no photos_*.tar of {folder}")


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
        """Read a face model at a layout's vertices, with the first identity directions.

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
