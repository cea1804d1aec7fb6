"""Reconstruct many crops at once where the boxes are known, for example from a tracker."""

import sys

import facerecon

photo = facerecon.read_image(sys.argv[1])
reconstructor = facerecon.FaceReconstructor.from_pretrained()
box = reconstructor.reconstruct(photo).box

boxes = [box + shift for shift in range(-4, 5, 2)]
faces = reconstructor.reconstruct_batch([photo] * len(boxes), boxes)
for given, face in zip(boxes, faces, strict=True):
    print(given.round(1), "yaw", round(face.pose.yaw, 2))
