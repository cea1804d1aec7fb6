"""A 3D face from one photo: 68 landmarks, a dense mesh and the head pose.

import facerecon

reconstructor = facerecon.FaceReconstructor.from_pretrained()
reconstructor.landmarks("photo.jpg")            # (68, 3)
reconstructor.mesh("photo.jpg").export("face.obj")
reconstructor.pose("photo.jpg")                 # yaw, pitch, roll
"""

from facerecon import errors
from facerecon.checkpoint import Checkpoint
from facerecon.decode import FaceMesh, HeadPose
from facerecon.detection import Cascade, Detection, Detector, SingleShot, YuNet
from facerecon.drawing import draw_face
from facerecon.errors import FacereconError, NoFaceFound
from facerecon.image import read_image
from facerecon.network import FaceNetwork, NetworkConfig
from facerecon.reconstructor import Face, FaceReconstructor
from facerecon.uv import UVCodec, UVLayout

__version__ = "0.1.0"

__all__ = [
    "Cascade",
    "Checkpoint",
    "Detection",
    "Detector",
    "Face",
    "FaceMesh",
    "FaceNetwork",
    "FaceReconstructor",
    "FacereconError",
    "HeadPose",
    "NetworkConfig",
    "NoFaceFound",
    "SingleShot",
    "UVCodec",
    "UVLayout",
    "YuNet",
    "__version__",
    "draw_face",
    "errors",
    "read_image",
]
