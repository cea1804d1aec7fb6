"""Print the head pose and a few of the 68 landmarks of a photo."""

import sys

import facerecon

reconstructor = facerecon.FaceReconstructor.from_pretrained()
face = reconstructor.reconstruct(sys.argv[1])

print(f"yaw {face.pose.yaw:.1f}, pitch {face.pose.pitch:.1f}, roll {face.pose.roll:.1f} degrees")
for name, index in {"nose tip": 30, "chin": 8, "right eye": 36, "left eye": 45}.items():
    x, y, z = face.landmarks[index]
    print(f"{name:9} x {x:7.1f}  y {y:7.1f}  z {z:7.1f} px")
