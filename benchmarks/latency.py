"""Milliseconds of each stage on one photo: median and interquartile range.

    python benchmarks/latency.py PHOTO [--yunet FILE] [--runs 30]

Stages alternate within a run, after three warm-up runs.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import numpy as np
import torch

import facerecon

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("photo")
parser.add_argument("--yunet")
parser.add_argument("--runs", type=int, default=30)
options = parser.parse_args()

photo = facerecon.read_image(options.photo)
reconstructor = facerecon.FaceReconstructor.from_pretrained(device="cpu")
box = reconstructor.reconstruct(photo).box
face = reconstructor.reconstruct(photo, box)
crop = face.frame.warp(photo)
stages: dict[str, Callable[[], object]] = {
    "read": lambda: facerecon.read_image(options.photo),
    "detect, default": lambda: reconstructor.detect(photo),
    "crop": lambda: face.frame.warp(photo),
    "network": lambda: reconstructor._position_maps([crop]),
    "landmarks, box given": lambda: reconstructor.landmarks(photo, box),
    "pose, box given": lambda: reconstructor.pose(photo, box),
    "mesh with texture": lambda: face.mesh().texture,
    "batch of 16, box given": lambda: reconstructor.reconstruct_batch([photo] * 16, [box] * 16),
}
if options.yunet:
    yunet = facerecon.YuNet(options.yunet)
    stages["detect, YuNet"] = lambda: yunet.detect(photo)

times: dict[str, list[float]] = {name: [] for name in stages}
for run in range(options.runs + 3):
    for name, stage in stages.items():
        start = time.perf_counter()
        stage()
        if run >= 3:
            times[name].append(1000 * (time.perf_counter() - start))

print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.processor()}")
print(f"photo {photo.shape[1]} x {photo.shape[0]}")
for name, values in times.items():
    low, middle, high = np.percentile(values, [25, 50, 75])
    print(f"{name:24} {middle:8.1f} ms   IQR {low:.1f} to {high:.1f}   {len(values)} runs")
