"""Training: data, augmentation, losses and the loop. ``import facerecon`` does not load it."""

from facerecon.training.config import TrainConfig
from facerecon.training.engine import smoke_test, train

__all__ = ["TrainConfig", "smoke_test", "train"]
