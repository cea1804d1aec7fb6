"""Measuring on data sets. ``import facerecon`` does not load it."""

from facerecon.evaluation.aflw2000 import AFLW2000Sample, read_aflw2000
from facerecon.evaluation.metrics import YAW_BINS, nme, yaw_bin
from facerecon.evaluation.protocol import Report, Row, evaluate_aflw2000

__all__ = [
    "YAW_BINS",
    "AFLW2000Sample",
    "Report",
    "Row",
    "evaluate_aflw2000",
    "nme",
    "read_aflw2000",
    "yaw_bin",
]
