"""A contact sheet of one photo turned out of plane, as training data are.

    python tools/profile_sheet.py PHOTO ICT_FACE_NPZ OUTPUT.jpg

The face model is fitted to the landmarks that facerecon finds; then the photo is turned to 24
poses.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

import facerecon
from facerecon.geometry import FACE_TO_CAMERA, CropFrame, box_of_points, matrix_from_euler
from facerecon.training.datasets.pack import PACK_MARGIN
from facerecon.training.fitting import FaceFitter, PointSet
from facerecon.training.rendering import HeadModel, turn_square
from facerecon.training.rendering.profiling import CENTRE

SIZE, COLUMNS = 224, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    photo = facerecon.read_image(options.photo)
    landmarks = facerecon.FaceReconstructor.from_pretrained().landmarks(photo)
    x0, y0, x1, y1 = box_of_points(landmarks)
    side = PACK_MARGIN * max(x1 - x0, y1 - y0)
    frame = CropFrame((x0 + x1) / 2, (y0 + y1) / 2, side, SIZE)
    points = (frame.to_normalised(landmarks) + [0.5, 0.5, 0]) * SIZE - [0.5, 0.5, 0]
    square = frame.warp(photo)

    fitter = FaceFitter(options.model, [PointSet.landmarks68(options.model, 0.3)])
    fit = fitter.fit([points[None]])
    rotation, scale, shift = fit.rotation[0], fit.scale[0], fit.translation[0]
    head = HeadModel.load(options.model, fitter.identities)
    canonical = head.vertices(fit.identity[0], fit.expression[0])
    posed = scale * canonical @ rotation.T + shift
    centre = scale * rotation @ np.array(CENTRE) + shift
    tiles, start = [], time.perf_counter()
    for pitch in (-15, 0, 15):
        for yaw in (-90, -70, -50, -30, 30, 50, 70, 90):
            turn = matrix_from_euler(yaw, pitch, 0) @ FACE_TO_CAMERA @ rotation.T
            tiles.append(turn_square(square, posed, head.triangles, turn, centre))
    seconds = (time.perf_counter() - start) / len(tiles)
    rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    sheet = np.vstack(rows)
    small = cv2.resize(sheet, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(options.output), bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(f"{len(tiles)} pictures of {SIZE} x {SIZE}, {1 / seconds:.1f} a second")


if __name__ == "__main__":
    main()
