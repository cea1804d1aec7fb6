"""A data folder cut down to what training looks at, in files of limited size, for carrying."""

from __future__ import annotations

import io
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from facerecon.errors import DataError
from facerecon.geometry import CropFrame
from facerecon.training.datasets.labels import (
    BadData,
    model_file,
    read_labels,
    read_layout,
    read_photos,
    write_labels,
)
from facerecon.training.datasets.pack import fitted_landmarks, squares_round

__all__ = ["write_parts"]

_QUALITY = 92


def write_parts(
    folder: str | Path,
    output: str | Path,
    size: int = 256,
    megabytes: float = 60.0,
    bad: BadData = "refuse",
) -> list[Path]:
    """Copy a data folder with its photos cut to the squares that are packed, as JPEG.

    The copy is a data folder like any other; a photo smaller than ``size`` keeps its resolution.

    Args:
        folder: The data folder.
        output: Folder of the copy, made when missing.
        size: Largest side of the cut photos, pixels.
        megabytes: Largest size of an archive, 10^6 bytes.
        bad: What to do about bad rows.

    Returns:
        All files of the copy.

    Raises:
        DataError: Data are missing or damaged, or labels or face model alone exceed the size.
    """
    target = Path(output)
    target.mkdir(parents=True, exist_ok=True)
    layout = read_layout(folder)
    labels = read_labels(folder, bad)
    frames = squares_round(fitted_landmarks(folder, labels, layout))
    side = np.minimum(size, np.ceil(frames[:, 2])).astype(int).clip(16)
    limit = int(megabytes * 1e6)

    for old in target.glob("photos_*.tar"):
        old.unlink()
    kept = np.zeros(len(labels), bool)
    archive, written = None, 0
    try:
        number = 0
        for row, photo in tqdm(
            read_photos(folder, labels.path, bad), total=len(labels), desc="cutting", unit="photo"
        ):
            x, y, length = frames[row].tolist()
            crop = CropFrame(x, y, length, int(side[row])).warp(photo)
            bgr = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
            content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
            taken = 1024 + -(-len(content) // 512) * 512  # header and padding
            if archive is None or written + taken > limit - 20480:
                if archive is not None:
                    archive.close()
                archive = tarfile.open(target / f"photos_{number:03d}.tar", "w")  # noqa: SIM115
                number, written = number + 1, 0
            member = tarfile.TarInfo(f"{row:07d}.jpg")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            written += taken
            kept[row] = True
    finally:
        if archive is not None:
            archive.close()

    scale = side / frames[:, 2]
    offset = np.column_stack([frames[:, :2], np.zeros(len(labels))])
    middle = np.column_stack([side / 2 - 0.5, side / 2 - 0.5, np.zeros(len(labels))])
    hand = (labels.hand_points - offset[:, None, :2]) * scale[:, None, None] + middle[:, None, :2]
    cut = replace(
        labels,
        path=np.array([f"{row:07d}.jpg" for row in range(len(labels))]),
        scale=(labels.scale * scale).astype(np.float32),
        translation=((labels.translation - offset) * scale[:, None] + middle).astype(np.float32),
        hand_points=hand.astype(np.float32),
        identity=labels.identity.astype(np.float16),
        expression=labels.expression.astype(np.float16),
    )
    write_labels(cut.take(kept), target / "labels.npz")
    for file in (model_file(folder), Path(folder) / "layout.safetensors"):
        if file.is_file():
            shutil.copyfile(file, target / file.name)
    files = sorted(file for file in target.iterdir() if file.is_file())
    for file in files:
        if file.stat().st_size > limit:
            raise DataError(
                f"{file} has {file.stat().st_size / 1e6:.1f} MB and cannot be split: "
                f"{megabytes} MB are allowed"
            )
    return files
