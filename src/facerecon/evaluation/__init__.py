"""Measuring on data sets. ``import facerecon`` does not load it."""

from facerecon.evaluation.aflw2000 import AFLW2000Sample, read_aflw2000
from facerecon.evaluation.metrics import YAW_BINS, nme, point_errors, yaw_bin
from facerecon.evaluation.points import PointsReport, evaluate_points
from facerecon.evaluation.protocol import evaluate_aflw2000
from facerecon.evaluation.report import Report, Row
from facerecon.evaluation.speed import SpeedReport, evaluate_speed

__all__ = [
    "YAW_BINS",
    "AFLW2000Sample",
    "PointsReport",
    "Report",
    "Row",
    "SpeedReport",
    "evaluate_aflw2000",
    "evaluate_points",
    "evaluate_speed",
    "nme",
    "point_errors",
    "read_aflw2000",
    "yaw_bin",
]
