"""A picture of the detector's training scenes, composed from one photo only.

    python tools/scenes_sheet.py PHOTO OUTPUT

Real runs compose them from thousands of photos: `facerecon data sheet detector`.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np

from facerecon import FaceReconstructor, read_image
from facerecon.drawing import write_png
from facerecon.geometry import CropFrame
from facerecon.training.datasets import FaceLabels
from facerecon.training.detection import SceneMaker, WholePhotos

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("photo")
parser.add_argument("output")
options = parser.parse_args()

photo = read_image(options.photo)
face = FaceReconstructor.from_pretrained(device="cpu").reconstruct(photo)
x0, y0, x1, y1 = face.box
frame = CropFrame((x0 + x1) / 2, (y0 + y1) / 2, 2.6 * (x1 - x0), 256)
landmarks = (frame.to_normalised(face.landmarks) + 0.5) * 256 - 0.5
none = np.zeros((1, 1))
labels = FaceLabels(*[none] * 13)  # scenes need none of them
photos = WholePhotos(
    frame.warp(photo)[None], np.array([[256.0, 256.0]]), landmarks[None], [np.empty((0, 4))], labels
)
maker = SceneMaker(photos, np.array([0]), np.array([1.0]))
tiles = []
for seed in range(8):
    scene = maker.make(np.random.default_rng(seed))
    tile = scene.pixels.copy()
    for box, points, counts in zip(scene.boxes, scene.points, scene.counts, strict=True):
        a, b = np.rint(box).astype(int).reshape(2, 2).tolist()
        cv2.rectangle(tile, a, b, (60, 255, 90) if counts else (60, 60, 255), 1)
        for point in np.rint(points).astype(int).tolist() if counts else []:
            cv2.circle(tile, point, 1, (255, 60, 60), -1)
    tiles.append(tile)
sheet = np.vstack([np.hstack(tiles[:4]), np.hstack(tiles[4:])])
if options.output.endswith(".png"):
    write_png(sheet, options.output)
else:
    cv2.imwrite(
        options.output, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82]
    )
