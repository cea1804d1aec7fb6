"""Samples a second of training: the data alone, the network alone, and both.

    python benchmarks/training.py CONFIG --data FOLDER --cache FOLDER [--steps 20] [--device cpu]

The three alternate, after three warm-up rounds; median and interquartile range. Also how many
pictures a second one process turns out of plane and renders.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import torch

from facerecon.training import TrainConfig
from facerecon.training.datasets import model_file
from facerecon.training.engine import Trainer
from facerecon.training.position_maps import PositionMapTask
from facerecon.training.processes import Processes
from facerecon.training.rendering import HeadModel, heads, profiling
from facerecon.training.sources import open_sources

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("config")
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--cache", type=Path, required=True)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--device", default="cpu")
parser.add_argument("--set", action="append", default=[])
options = parser.parse_args()

config = TrainConfig.from_toml(options.config, options.set)
sources = open_sources(config, [(options.data, 1.0)], options.cache, 2)
processes = Processes(options.device)
task = PositionMapTask(config, sources, processes.device)
trainer = Trainer(config, task, options.cache, processes)
forward = torch.compile(trainer.network) if config.compile else trainer.network
fixed = trainer.batch(0)
stages = {
    "data": lambda step: trainer.batch(step),
    "network": lambda step: trainer.train_step(step, forward, fixed),
    "both": lambda step: trainer.train_step(step, forward, trainer.batch(step)),
}
times: dict[str, list[float]] = {name: [] for name in stages}
for step in range(options.steps + 3):
    for name, stage in stages.items():
        start = time.perf_counter()
        stage(step)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
        if step >= 3:
            times[name].append(time.perf_counter() - start)

print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}")
print(f"{config.network}, batch {config.batch}, {trainer.device}, compiled {config.compile}")
for name, values in times.items():
    low, middle, high = config.batch / np.percentile(values, [75, 50, 25])
    print(f"{name:10} {middle:7.1f} samples/s   IQR {low:.1f} to {high:.1f}")

pool = sources.pool
head = HeadModel.load(model_file(options.data), pool.labels.identity.shape[1])
rows, labels = profiling.turned_labels(pool.labels, 24, 0)
squares = pool.squares(rows)
start = time.perf_counter()
for i, row in enumerate(rows):
    before, after = pool.labels.take([row]), labels.take([i])
    profiling._turn(head, profiling._Job(squares[i], before, after, pool.frames[row]))
print(f"turning    {24 / (time.perf_counter() - start):7.1f} pictures/s a process")

skins, drawn = heads.drawn_labels(pool.labels, 24, 0)
squares = pool.squares(skins)
painter = heads.HeadPainter(head)
start = time.perf_counter()
for i, row in enumerate(skins):
    side = pool.frames[row]
    colors = painter.skin(
        squares[i], heads.posed_in_square(head, pool.labels.take([row]), side, squares.shape[1])
    )
    posed = heads.posed_in_square(head, drawn.take([i]), np.array([0, 0, 400.0]), squares.shape[1])
    eyes = painter.eyes(120.0, np.random.default_rng(0))
    painter.render(posed, np.concatenate([colors, eyes]), squares[i], np.zeros(3))
print(f"rendering  {24 / (time.perf_counter() - start):7.1f} pictures/s a process")
