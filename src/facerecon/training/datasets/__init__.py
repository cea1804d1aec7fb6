"""Readers of labelled photos and the packed cache that training draws from."""

from facerecon.training.datasets.ict import FaceLabels, MorphableModel, read_labels, read_photos
from facerecon.training.datasets.pack import PackedPhotos, pack

__all__ = ["FaceLabels", "MorphableModel", "PackedPhotos", "pack", "read_labels", "read_photos"]
