"""Samples a second of training: the data alone, the network alone, and both.

    python benchmarks/training.py CONFIG --data FOLDER --cache FOLDER [--steps 20] [--device cpu]

The three alternate, after three warm-up rounds; median and interquartile range. Also how many
pictures a second one process turns out of plane and renders.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from alternating import by_turns, summary

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


def finished(stage: Callable[[int], object]) -> Callable[[int], object]:
    """A stage that has the device's work done when it returns."""

    def call(step: int) -> None:
        stage(step)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()

    return call


times = by_turns({name: finished(stage) for name, stage in stages.items()}, options.steps)
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}")
print(f"{config.network}, batch {config.batch}, {trainer.device}, compiled {config.compile}")
for name, values in times.items():
    print(f"{name:10} {summary(1000 * config.batch / values, 'samples/s')}")

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
