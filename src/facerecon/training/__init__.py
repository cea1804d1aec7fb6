"""Training: data, augmentation, losses and the loop. ``import facerecon`` does not load it."""

from facerecon.training.config import TrainConfig
from facerecon.training.engine import train

__all__ = ["TrainConfig", "train"]
