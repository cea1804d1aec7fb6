"""Milliseconds of each detector on one photo, by turns, and their ratio.

    python benchmarks/detectors.py PHOTO [--yunet FILE] [--side 640] [--runs 40]

The photo is scaled so that its longer side is SIDE pixels. After five warm-up rounds; median and
interquartile range over the rounds.
"""

from __future__ import annotations

import argparse
import platform
import time

import cv2
import numpy as np
import torch

import facerecon

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("photo")
parser.add_argument("--yunet")
parser.add_argument("--side", type=int, default=640)
parser.add_argument("--runs", type=int, default=40)
options = parser.parse_args()

photo = facerecon.read_image(options.photo)
scale = options.side / max(photo.shape[:2])
photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
reconstructor = facerecon.FaceReconstructor.from_pretrained(device="cpu")
detectors: dict[str, facerecon.Detector] = {
    "SingleShot": facerecon.SingleShot(),
    "confirmed": reconstructor,
}
if options.yunet:
    detectors["YuNet"] = facerecon.YuNet(options.yunet)
times: dict[str, list[float]] = {name: [] for name in detectors}
for run in range(options.runs + 5):
    for name, detector in detectors.items():
        start = time.perf_counter()
        detector.detect(photo)
        if run >= 5:
            times[name].append(1000 * (time.perf_counter() - start))

print(f"torch {torch.__version__}, OpenCV {cv2.__version__}, {torch.get_num_threads()} threads")
print(f"{platform.machine()}, photo {photo.shape[1]} x {photo.shape[0]}")
for name, values in times.items():
    low, middle, high = np.percentile(values, [25, 50, 75])
    print(f"{name:12} {middle:7.1f} ms   IQR {low:.1f} to {high:.1f}   {len(values)} runs")
if options.yunet:
    for name in ("SingleShot", "confirmed"):
        low, middle, high = np.percentile(np.divide(times[name], times["YuNet"]), [25, 50, 75])
        print(f"{name} / YuNet {middle:.2f}, IQR {low:.2f} to {high:.2f}")
