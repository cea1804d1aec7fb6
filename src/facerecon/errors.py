"""Every error that facerecon raises on purpose.

    FacereconError
    ├── ImageError            the picture cannot be read or is not a picture
    ├── BoxError              a face box is malformed or lies outside the picture
    ├── NoFaceFound           nobody is in the picture
    ├── ConfigError           a configuration has unknown, missing or impossible values
    ├── LayoutError           a face layout is damaged, or does not fit the data given with it
    ├── CheckpointError       weights cannot be used
    │   ├── CheckpointNotFound    no such folder, repository, revision or file
    │   ├── HubUnreachable        the Hub did not answer and nothing is cached
    │   └── CheckpointInvalid     corrupted, foreign or mismatched files
    ├── DetectorUnavailable   a detector's weights or OpenCV part are missing
    ├── ExportError           a mesh or picture cannot be written as asked
    ├── DataError             training or evaluation data is missing or wrong
    └── MissingDependency     an optional package is needed and not installed

Errors that stand for a bad argument are ``ValueError`` too, a missing file is a
``FileNotFoundError`` too, so callers who do not know facerecon still catch them.
"""

from __future__ import annotations

__all__ = [
    "BoxError",
    "CheckpointError",
    "CheckpointInvalid",
    "CheckpointNotFound",
    "ConfigError",
    "DataError",
    "DetectorUnavailable",
    "ExportError",
    "FacereconError",
    "HubUnreachable",
    "ImageError",
    "LayoutError",
    "MissingDependency",
    "NoFaceFound",
]


class FacereconError(Exception):
    """The base of every error that facerecon raises on purpose."""


class ImageError(FacereconError, ValueError):
    """The picture cannot be read, or is not a picture."""


class BoxError(FacereconError, ValueError):
    """A face box is malformed or lies outside the picture."""


class NoFaceFound(FacereconError):
    """Nobody was found in the picture."""


class ConfigError(FacereconError, ValueError):
    """A configuration has unknown, missing or impossible values."""


class LayoutError(FacereconError, ValueError):
    """A face layout is damaged, or does not fit the data given with it."""


class CheckpointError(FacereconError):
    """Weights cannot be used."""


class CheckpointNotFound(CheckpointError, FileNotFoundError):
    """There is no such folder, repository, revision or file."""


class HubUnreachable(CheckpointError, ConnectionError):
    """The Hub did not answer and the files are not in the cache."""


class CheckpointInvalid(CheckpointError, ValueError):
    """The files are corrupted, foreign, or do not belong together."""


class DetectorUnavailable(FacereconError):
    """A detector's weights, or the part of OpenCV it needs, are missing."""


class ExportError(FacereconError, ValueError):
    """A mesh or picture cannot be written as asked."""


class DataError(FacereconError, ValueError):
    """Training or evaluation data is missing or wrong."""


class MissingDependency(FacereconError, ImportError):
    """An optional package is needed and not installed."""
