"""From a position map to what users want: landmarks, pose, mesh, depth, texture."""

from facerecon.decode.mesh import FaceMesh
from facerecon.decode.pose import HeadPose, fit_pose
from facerecon.decode.surface import smooth_surface
from facerecon.decode.texture import sample_colors, uv_texture
from facerecon.decode.visibility import depth_image, visible_vertices

__all__ = [
    "FaceMesh",
    "HeadPose",
    "depth_image",
    "fit_pose",
    "sample_colors",
    "smooth_surface",
    "uv_texture",
    "visible_vertices",
]
