"""Training and measuring the face detector: scenes composed from the photos of a data folder."""

from facerecon.training.detection.photos import WholePhotos, whole_photos
from facerecon.training.detection.scenes import Scene, SceneMaker

__all__ = ["Scene", "SceneMaker", "WholePhotos", "whole_photos"]
