"""Readers of labelled photos and the packed caches that training draws from."""

from facerecon.training.datasets.labels import (
    FaceLabels,
    MorphableModel,
    model_file,
    read_labels,
    read_layout,
    read_photos,
    write_labels,
)
from facerecon.training.datasets.pack import PackedPhotos, PhotoPool, pack

__all__ = [
    "FaceLabels",
    "MorphableModel",
    "PackedPhotos",
    "PhotoPool",
    "model_file",
    "pack",
    "read_labels",
    "read_layout",
    "read_photos",
    "write_labels",
]
