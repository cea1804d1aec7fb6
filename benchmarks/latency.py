"""Milliseconds of each stage on one photo: median and interquartile range.

    python benchmarks/latency.py PHOTO [--yunet FILE] [--runs 30]

Stages alternate within a run, after three warm-up runs.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable

import torch
from alternating import by_turns, summary

import facerecon

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("photo")
parser.add_argument("--yunet")
parser.add_argument("--runs", type=int, default=30)
options = parser.parse_args()

photo = facerecon.read_image(options.photo)
reconstructor = facerecon.FaceReconstructor.from_pretrained(device="cpu")
hasty, careful = (
    facerecon.FaceReconstructor(reconstructor.checkpoint, views=views) for views in (1, 6)
)
box = reconstructor.reconstruct(photo).box
face = reconstructor.reconstruct(photo, box)
crop = face.frame.warp(photo)
stages: dict[str, Callable[[], object]] = {
    "read": lambda: facerecon.read_image(options.photo),
    "detect, default": lambda: reconstructor.detect(photo),
    "crop": lambda: face.frame.warp(photo),
    "network": lambda: reconstructor._position_maps([crop]),
    "landmarks": lambda: reconstructor.landmarks(photo),
    "landmarks, box given": lambda: reconstructor.landmarks(photo, box),
    "landmarks, box given, 1 view": lambda: hasty.landmarks(photo, box),
    "landmarks, box given, 6 views": lambda: careful.landmarks(photo, box),
    "pose, box given": lambda: reconstructor.pose(photo, box),
    "mesh with texture": lambda: face.mesh().texture,
    "batch of 16, box given": lambda: reconstructor.reconstruct_batch([photo] * 16, [box] * 16),
}
if options.yunet:
    yunet = facerecon.YuNet(options.yunet)
    stages["detect, YuNet"] = lambda: yunet.detect(photo)

times = by_turns(
    {name: lambda _, call=stage: call() for name, stage in stages.items()}, options.runs
)
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.processor()}")
print(f"photo {photo.shape[1]} x {photo.shape[0]}")
for name, values in times.items():
    print(f"{name:30} {summary(values, 'ms')}   {len(values)} runs")
