"""Print the insets that turn YuNet's boxes into boxes round the 68 landmarks.

    python tools/calibrate_yunet.py DATA YUNET_ONNX

DATA is a training folder, see docs/training.md. The medians over the photos with context (HELEN,
AFW, LFPW; training split) go into facerecon.detection.yunet._INSETS.
"""

from __future__ import annotations

import argparse

import numpy as np
from tqdm import tqdm

from facerecon.detection import YuNet, yunet
from facerecon.geometry import box_of_points
from facerecon.training.datasets import read_labels, read_layout, read_photos
from facerecon.training.datasets.pack import fitted_landmarks

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data")
parser.add_argument("yunet")
parser.add_argument("--photos", type=int, default=600)
options = parser.parse_args()

labels = read_labels(options.data)
wanted = labels.good & (labels.split == "train") & np.isin(labels.source, ["helen", "afw", "lfpw"])
rows = np.random.default_rng(0).permutation(np.flatnonzero(wanted))[: options.photos]
labels = labels.take(np.sort(rows))
points = fitted_landmarks(options.data, labels, read_layout(options.data))
truth = np.stack([box_of_points(p) for p in points])

yunet._INSETS = (0.0, 0.0, 0.0, 0.0)  # what is wanted here is YuNet's own box
detector = YuNet(options.yunet)
insets = []
for row, photo in tqdm(read_photos(options.data, labels.path), total=len(labels)):
    for found in detector.detect(photo)[:1]:
        size = np.tile(found.box[2:] - found.box[:2], 2)
        shares = (truth[row] - found.box) / size * [1, 1, -1, -1]
        if np.abs(shares).max() < 0.5:  # another person's face otherwise
            insets.append(shares)
middle = np.median(insets, axis=0)
print(f"{len(insets)} faces; left, top, right, bottom: {middle.round(3).tolist()}")
print("median absolute deviation:", np.median(np.abs(insets - middle), axis=0).round(3).tolist())
