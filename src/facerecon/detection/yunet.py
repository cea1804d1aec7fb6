"""YuNet through OpenCV: accurate and fast, but its weights are a download.

YuNet: Wu et al., Machine Intelligence Research 20, 2023; weights Apache-2.0.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facerecon.detection.detector import Detection, suppress
from facerecon.errors import DetectorUnavailable

__all__ = ["YuNet"]

_REPOSITORY, _FILE = "opencv/face_detection_yunet", "face_detection_yunet_2023mar.onnx"
# YuNet's box to the 68 landmarks' box, as shares of its width and height: left, top, right, bottom;
# medians printed by tools/calibrate_yunet.py, left and right averaged
_INSETS = (-0.016, 0.254, -0.016, 0.008)


class YuNet:
    """OpenCV's FaceDetectorYN.

    Args:
        weights: The ONNX file; by default it is fetched from the Hub repository
            ``opencv/face_detection_yunet`` once and then taken from the Hub's cache.
        threshold: Lowest score.
        max_side: Larger photos are shrunk to this before detection, pixels.

    Raises:
        DetectorUnavailable: The file is missing or no such network, the Hub was not reached, or
            this OpenCV has no FaceDetectorYN.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        threshold: float = 0.6,
        max_side: int = 640,
    ) -> None:
        if not hasattr(cv2, "FaceDetectorYN"):
            raise DetectorUnavailable(f"OpenCV {cv2.__version__} has no FaceDetectorYN")
        path = _fetch() if weights is None else Path(weights)
        if not path.is_file():
            raise DetectorUnavailable(f"there is no YuNet file {path}")
        try:
            self._network = cv2.FaceDetectorYN.create(str(path), "", (320, 320), threshold)
        except cv2.error as error:
            raise DetectorUnavailable(f"OpenCV cannot load {path}: {error.err}") from error
        self._lock = threading.Lock()  # OpenCV's detector keeps state between calls
        self._max_side = max_side

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Faces in an RGB photo, largest first."""
        height, width = image.shape[:2]
        scale = min(1.0, self._max_side / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        with self._lock:
            self._network.setInputSize(size)
            _, rows = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        factor = np.array([width / size[0], height / size[1]] * 2)
        found = []
        for row in np.empty((0, 15)) if rows is None else rows:
            x, y, w, h = (row[:4] * factor).tolist()
            left, top, right, bottom = _INSETS
            box = np.array([x + left * w, y + top * h, x + w - right * w, y + h - bottom * h])
            points = row[4:14].reshape(5, 2).astype(np.float64) * factor[:2]
            found.append(Detection(box, float(row[14]), points))
        return suppress(found)


def _fetch() -> Path:
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(_REPOSITORY, _FILE))
    except Exception as error:  # whatever the client's HTTP library raises
        raise DetectorUnavailable(
            f"YuNet's weights could not be fetched from the Hub repository {_REPOSITORY} "
            f"({type(error).__name__}); pass the path of {_FILE}, or use the default detector"
        ) from error
