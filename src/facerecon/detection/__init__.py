"""Face detectors behind one protocol; see :mod:`facerecon.detection.detector` for the box."""

from facerecon.detection.cascade import Cascade
from facerecon.detection.detector import Detection, Detector, five_points, overlap, suppress
from facerecon.detection.single_shot import SingleShot
from facerecon.detection.yunet import YuNet

__all__ = [
    "Cascade",
    "Detection",
    "Detector",
    "SingleShot",
    "YuNet",
    "five_points",
    "overlap",
    "suppress",
]
