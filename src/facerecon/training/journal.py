"""What a run leaves behind for people: numbers in CSV and TensorBoard, and pictures."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facerecon.drawing import write_png
from facerecon.errors import MissingDependency

__all__ = ["Journal", "contact_sheet"]


class Journal:
    """Appends numbers to ``log.csv``, to TensorBoard where wanted, and saves pictures."""

    def __init__(self, folder: Path, tensorboard: bool = False) -> None:
        self._csv, self._pictures = folder / "log.csv", folder / "pictures"
        self._writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingDependency(
                    "TensorBoard logs need tensorboard: pip install facerecon[train]"
                ) from error
            self._writer = SummaryWriter(str(folder / "tensorboard"))

    def numbers(self, row: dict[str, float]) -> None:
        """Write one row; ``step`` is among its keys."""
        new = not self._csv.exists()
        with self._csv.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
        if self._writer is not None:
            for key, value in row.items():
                if key != "step":
                    self._writer.add_scalar(key, value, int(row["step"]))
            self._writer.flush()

    def picture(self, step: int, image: NDArray[np.uint8]) -> None:
        """Save an RGB picture as ``pictures/STEP.png``."""
        self._pictures.mkdir(exist_ok=True)
        write_png(image, self._pictures / f"{step:07d}.png")
        if self._writer is not None:
            self._writer.add_image("validation", image, step, dataformats="HWC")

    def close(self) -> None:
        """Finish the files."""
        if self._writer is not None:
            self._writer.close()


def contact_sheet(
    crops: NDArray[np.uint8],
    found: NDArray[np.float32],
    truth: NDArray[np.float32],
    columns: int = 4,
    side: int = 224,
) -> NDArray[np.uint8]:
    """Crops with their landmarks: the truth in red under the network's answer in green.

    Args:
        crops: (n, s, s, 3) RGB.
        found: (n, 68, 3) crop-normalised.
        truth: Likewise.
        columns: Crops a row.
        side: Pixels each crop is shown at.
    """
    tiles = []
    for crop, *sets in zip(crops, truth, found, strict=True):
        tile = cv2.resize(crop, (side, side), interpolation=cv2.INTER_CUBIC)
        for points, color in zip(sets, ((255, 60, 60), (60, 255, 90)), strict=True):
            at = ((points[:, :2] + 0.5) * side - 0.5) * 16
            for point in np.rint(at).astype(int).tolist():
                cv2.circle(tile, point, 24, color, -1, cv2.LINE_AA, 4)
        tiles.append(tile)
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return np.asarray(np.vstack(rows), dtype=np.uint8)
