"""Face detectors behind one protocol; see :mod:`facerecon.detection.detector` for the box."""

from facerecon.detection.cascade import Cascade
from facerecon.detection.detector import Detection, Detector, overlap, suppress
from facerecon.detection.fixed_point import FixedPoint
from facerecon.detection.yunet import YuNet

__all__ = ["Cascade", "Detection", "Detector", "FixedPoint", "YuNet", "overlap", "suppress"]
