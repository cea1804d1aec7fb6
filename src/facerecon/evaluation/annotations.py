"""Photos with hand-made points: 300-W's 68, CFP's 30, AFLW's 21.

The 30 and 21 points are read from the 68 by name: corners of eyes, brows and mouth are landmarks,
middles of eyes and mouth are means of their outlines. AFLW's two ear lobes have no counterpart and
do not count. CFP's 30 are those of one half of the face; for a face that shows the other half the
mirrored ones are meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facerecon.errors import DataError

__all__ = [
    "INNER_51",
    "AnnotatedPhoto",
    "annotation_distance",
    "from_68",
    "read_annotated",
    "read_points",
    "single_landmarks",
]

INNER_51 = np.arange(17, 68)
"""The 68 points without the jaw."""

_SUFFIXES = (".jpg", ".jpeg", ".png")
_CFP = (
    *range(9), 17, 19, 21, 36, 37, 38, 39, 40, 41, 27, 28, 29, 30, 33, 32, 31, 48, 51, 62, 57, 66,
)  # fmt: skip
_AFLW: tuple[tuple[int, ...], ...] = (
    (17,), (19,), (21,), (22,), (24,), (26,),
    (36,), (36, 37, 38, 39, 40, 41), (39,), (42,), (42, 43, 44, 45, 46, 47), (45,),
    (), (31,), (30,), (35,), (), (48,), (51, 57), (54,), (8,),
)  # fmt: skip
_MIRROR = np.concatenate([
    np.arange(16, -1, -1), np.arange(26, 16, -1), np.arange(27, 31), np.arange(35, 30, -1),
    [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40],
    [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65],
])  # fmt: skip


@dataclass(frozen=True)
class AnnotatedPhoto:
    """One photo.

    Attributes:
        name: The files' stem.
        photo: Path of the picture.
        points: (68, 30 or 21, 2) photo pixels, NaN where hidden.
    """

    name: str
    photo: Path
    points: NDArray[np.float64]


def read_annotated(folder: str | Path) -> Iterator[AnnotatedPhoto]:
    """Photos with points beside them, in name order; photos without points are passed over.

    Raises:
        DataError: There are none, or points cannot be read.
    """
    photos = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in _SUFFIXES)
    found = False
    for photo in photos:
        beside = [photo.with_suffix(s) for s in (".pts", ".npy", ".txt")]
        files = [file for file in beside if file.is_file()]
        if files:
            found = True
            points = read_points(files[0])[:, :2]
            if len(points) not in (68, 30, 21):
                raise DataError(f"{files[0]} holds {len(points)} points; 68, 30 or 21 are known")
            yield AnnotatedPhoto(photo.stem, photo, points)
    if not found:
        raise DataError(f"{folder} holds no photo with NAME.pts, NAME.npy or NAME.txt beside it")


def read_points(file: str | Path) -> NDArray[np.float64]:
    """Points (k, 2 or 3) of one face in pixels, an integer a pixel's centre.

    Args:
        file: ``.pts`` (300-W, whose first pixel is 1), ``.npy``, ``.npz`` with ``points``, or text
            with a point a line.

    Raises:
        DataError: It cannot be read, or holds something else.
    """
    path = Path(file)
    try:
        if path.suffix == ".npy":
            points = np.load(path, allow_pickle=False).astype(np.float64)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                points = archive["points"].astype(np.float64)
        elif path.suffix == ".pts":
            text = path.read_text()
            inside = text[text.index("{") + 1 : text.index("}")].split()
            points = np.array(inside, np.float64).reshape(-1, 2) - 1.0
        else:
            points = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"cannot read points from {path}: {error}") from error
    if points.ndim != 2 or points.shape[1] not in (2, 3) or np.isinf(points).any():
        raise DataError(f"{path} holds {points.shape} numbers; (k, 2 or 3), NaN where hidden")
    return points


def read_prediction(folder: str | Path, name: str) -> NDArray[np.float64]:
    """Another tool's points of one photo, from NAME.npz, .npy or .txt.

    Raises:
        DataError: None of them is there, or it cannot be read.
    """
    for suffix in (".npz", ".npy", ".txt"):
        if (Path(folder) / f"{name}{suffix}").is_file():
            return read_points(Path(folder) / f"{name}{suffix}")
    raise DataError(f"{folder} holds no {name}.npz, .npy or .txt")


def from_68(points: NDArray[np.float64], count: int, mirrored: bool = False) -> NDArray[np.float64]:
    """The points of another annotation, read from the 68.

    Args:
        points: (..., 68, d).
        count: 68, 30 (CFP) or 21 (AFLW).
        mirrored: CFP's points of the person's left half instead of the right one.

    Returns:
        (..., count, d); NaN where the 68 hold no counterpart.
    """
    source = points[..., _MIRROR, :] if mirrored else points
    if count == 68:
        return source
    groups = [(index,) for index in _CFP] if count == 30 else _AFLW
    out = np.full((*points.shape[:-2], len(groups), points.shape[-1]), np.nan)
    for k, group in enumerate(groups):
        if group:
            out[..., k, :] = source[..., list(group), :].mean(-2)
    return out


def annotation_distance(found: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Mean distance in pixels of the 68 found points to an annotation's known points.

    Of 68 points the 51 inner ones count. CFP's 30 lie on the half of the face that is seen: the one
    that fits by far better.

    Args:
        found: (68, 2).
        truth: (68, 30 or 21, 2), NaN where hidden.

    Returns:
        NaN where none of them is known.
    """
    count = len(truth)
    sides = [from_68(found, count, mirrored) for mirrored in (False, True)[: 1 + (count == 30)]]
    used = INNER_51 if count == 68 else np.arange(count)
    distances = [np.linalg.norm(side - truth, axis=1)[used] for side in sides]
    known = np.isfinite(distances[0])
    return float(min(d[known].mean() for d in distances)) if known.any() else float("nan")


def single_landmarks(truth: NDArray[np.float64], near: NDArray[np.float64]) -> NDArray[np.float64]:
    """An annotation's points that are landmarks of the 68 by themselves, in their places there.

    Args:
        truth: (68, 30 or 21, 2), NaN where hidden.
        near: (68, 2) where the landmarks lie about; tells which half CFP's 30 are of.

    Returns:
        (68, 2), NaN where the annotation has no such point.
    """
    if len(truth) == 68:
        return truth
    out = np.full((68, 2), np.nan)
    if len(truth) == 21:
        for k, group in enumerate(_AFLW):
            if len(group) == 1:
                out[group[0]] = truth[k]
        return out
    right, left = (from_68(near, 30, mirrored) - truth for mirrored in (False, True))
    mirrored = np.nansum(np.abs(left)) < np.nansum(np.abs(right))
    out[_MIRROR[list(_CFP)] if mirrored else list(_CFP)] = truth
    return out
