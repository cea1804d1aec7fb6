"""Rotations, similarities, crops, normals and rasters; numpy, scipy and OpenCV only."""

from facerecon.geometry.crop import CropFrame, box_of_points, checked_box
from facerecon.geometry.rasterise import Raster, rasterise
from facerecon.geometry.rotation import (
    FACE_TO_CAMERA,
    aflw2000_from_matrix,
    euler_from_matrix,
    matrix_from_aflw2000,
    matrix_from_euler,
    quaternion_from_matrix,
)
from facerecon.geometry.similarity import Similarity, umeyama
from facerecon.geometry.triangles import triangle_normals, vertex_normals

__all__ = [
    "FACE_TO_CAMERA",
    "CropFrame",
    "Raster",
    "Similarity",
    "aflw2000_from_matrix",
    "box_of_points",
    "checked_box",
    "euler_from_matrix",
    "matrix_from_aflw2000",
    "matrix_from_euler",
    "quaternion_from_matrix",
    "rasterise",
    "triangle_normals",
    "umeyama",
    "vertex_normals",
]
