"""Write a photo's face as a textured OBJ, a GLB, and a dense grid in PLY."""

import sys

import facerecon

reconstructor = facerecon.FaceReconstructor.from_pretrained()
face = reconstructor.reconstruct(sys.argv[1])

mesh = face.mesh()  # the face model's vertices, always in the same order
print(mesh.export("face.obj"), f"{len(mesh.vertices)} vertices, with face.mtl and face.png")
print(mesh.export("face.glb"), "the same in one file")

dense = face.mesh("grid", grid_size=256)  # one vertex per texel
print(dense.export("dense.ply"), f"{len(dense.vertices)} vertices with colours")
