"""Draw landmarks, wireframe and pose axes of every face of a photo."""

import sys

import facerecon
from facerecon.drawing import draw_faces, write_png

photo = facerecon.read_image(sys.argv[1])
reconstructor = facerecon.FaceReconstructor.from_pretrained()
faces = reconstructor.reconstruct_all(photo)
write_png(draw_faces(photo, faces), "overlay.png")
print(f"{len(faces)} face(s), drawn in overlay.png")
