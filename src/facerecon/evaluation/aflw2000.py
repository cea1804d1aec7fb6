"""AFLW2000-3D: photos with Matlab files of 68 3D points and pose.

Convention:
    ``pt3d_68`` is (3, 68) in pixels, z towards the viewer; here z points into the scene, converted
    once. Its x and y have Matlab's origin (the first pixel's centre is 1). Published evaluations
    compare with these numbers as they are, so that is the default; ``origin="corrected"``
    subtracts the 1.
    ``Pose_Para[0, :3]`` is pitch, yaw, roll in radians, see :mod:`facerecon.geometry.rotation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from facerecon.errors import DataError

__all__ = ["AFLW2000Sample", "read_aflw2000"]

_UNREADABLE = (OSError, KeyError, ValueError, IndexError, NotImplementedError, MatReadError)


@dataclass(frozen=True)
class AFLW2000Sample:
    """One photo.

    Attributes:
        name: The files' stem.
        photo: Path of the .jpg.
        landmarks: (68, 3) photo pixels, z into the scene.
        pose: (3,) pitch, yaw, roll in degrees, in the data set's convention.
    """

    name: str
    photo: Path
    landmarks: NDArray[np.float64]
    pose: NDArray[np.float64]

    @property
    def yaw(self) -> float:
        """Degrees, in the data set's sign: negative when the nose turns to the person's left."""
        return float(self.pose[1])


def read_aflw2000(
    folder: str | Path, origin: Literal["published", "corrected"] = "published"
) -> Iterator[AFLW2000Sample]:
    """Read a folder of ``NAME.jpg`` and ``NAME.mat``, in name order.

    Args:
        folder: Where the files lie.
        origin: ``published`` leaves x and y as stored, ``corrected`` moves them to a 0 origin.

    Raises:
        DataError: There are no .mat files, a photo is missing, or a file has other content.
    """
    files = sorted(Path(folder).glob("*.mat"))
    if not files:
        raise DataError(f"{folder} holds no .mat files: AFLW2000-3D's .jpg and .mat are needed")
    for file in files:
        photo = file.with_suffix(".jpg")
        if not photo.is_file():
            raise DataError(f"{file} has no {photo.name} beside it")
        try:
            content = loadmat(file)
            points = np.asarray(content["pt3d_68"], np.float64)
            pose = np.degrees(np.asarray(content["Pose_Para"], np.float64)[0, :3])
        except _UNREADABLE as error:
            raise DataError(f"cannot read {file}: {error}") from error
        if points.shape != (3, 68) or not np.isfinite(points).all():
            raise DataError(f"{file}: pt3d_68 is {points.shape}, finite (3, 68) is needed")
        landmarks = points.T * [1.0, 1.0, -1.0]
        if origin == "corrected":
            landmarks[:, :2] -= 1.0
        yield AFLW2000Sample(file.stem, photo, landmarks, pose)
