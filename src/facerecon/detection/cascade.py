"""OpenCV's Haar cascade (Viola and Jones, CVPR 2001), where the installed OpenCV carries it.

OpenCV 5's wheels carry none; frontal faces only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facerecon.detection.detector import Detection, suppress
from facerecon.errors import DetectorUnavailable

__all__ = ["Cascade"]

_FILE = "haarcascade_frontalface_default.xml"
# the cascade's square reaches from the forehead to below the lips' lower edge; shares of its side
_LEFT, _TOP, _RIGHT, _BOTTOM = 0.12, 0.24, 0.12, -0.07


class Cascade:
    """OpenCV's frontal face cascade.

    Raises:
        DetectorUnavailable: This OpenCV has no cascades.
    """

    def __init__(self) -> None:
        folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
        path = Path(folder) / _FILE
        if not hasattr(cv2, "CascadeClassifier") or not path.is_file():
            raise DetectorUnavailable(f"OpenCV {cv2.__version__} carries no {_FILE}")
        self._path = str(path)

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Faces in an RGB photo, largest first; cascades give no score, it is 0.5."""
        # a classifier keeps state between calls, so each call has its own
        classifier: Any = cv2.CascadeClassifier(self._path)  # type: ignore[attr-defined, unused-ignore]
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        least = max(24, min(grey.shape) // 12)
        found = classifier.detectMultiScale(grey, 1.1, 5, minSize=(least, least))
        boxes = [
            np.array([x + _LEFT * w, y + _TOP * h, x + w - _RIGHT * w, y + h - _BOTTOM * h])
            for x, y, w, h in np.asarray(found, np.float64).reshape(-1, 4)
        ]
        return suppress([Detection(box, 0.5) for box in boxes])
