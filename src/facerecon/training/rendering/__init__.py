"""Pictures made from the face model: photos turned out of plane, and whole rendered heads."""

from facerecon.training.rendering.head import HeadModel
from facerecon.training.rendering.heads import render_heads
from facerecon.training.rendering.profiling import profile_photos, turn_square

__all__ = ["HeadModel", "profile_photos", "render_heads", "turn_square"]
