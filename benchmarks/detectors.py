"""Milliseconds of each detector on one photo, by turns, and their ratio.

    python benchmarks/detectors.py PHOTO [--yunet FILE] [--side 640] [--runs 40]

The photo is scaled so that its longer side is SIDE pixels. After five warm-up rounds; median and
interquartile range over the rounds.
"""

from __future__ import annotations

import argparse
import platform

import cv2
import torch
from alternating import by_turns, summary

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
times = by_turns(
    {name: lambda _, d=detector: d.detect(photo) for name, detector in detectors.items()},
    options.runs,
    warm_up=5,
)
print(f"torch {torch.__version__}, OpenCV {cv2.__version__}, {torch.get_num_threads()} threads")
print(f"{platform.machine()}, photo {photo.shape[1]} x {photo.shape[0]}")
for name, values in times.items():
    print(f"{name:12} {summary(values, 'ms')}   {len(values)} runs")
if options.yunet:
    for name in ("SingleShot", "confirmed"):
        print(f"{name + ' / YuNet':20} {summary(times[name] / times['YuNet'], 'times', 2)}")
