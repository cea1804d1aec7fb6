"""How long each stage takes, and how much memory."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import facerecon
from facerecon.image import read_image
from facerecon.reconstructor import FaceReconstructor

__all__ = ["SpeedReport", "evaluate_speed"]

_WARM_UP = 3


@dataclass(frozen=True)
class SpeedReport:
    """Times of the stages, taken by turns.

    Attributes:
        hardware: Where it was measured.
        milliseconds: Times per call of each stage.
        photos: Photos per call of each stage.
        peak_megabytes: Largest resident memory of this process, 10^6 bytes; None on Windows.
        gpu_megabytes: Largest memory that torch held on the GPU; None without one.
    """

    hardware: dict[str, str]
    milliseconds: dict[str, NDArray[np.float64]]
    photos: dict[str, int]
    peak_megabytes: float | None
    gpu_megabytes: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        stages = {}
        for name, values in self.milliseconds.items():
            low, middle, high, worst = np.percentile(values, [25, 50, 75, 99]).tolist()
            stages[name] = {
                "median_ms": middle,
                "iqr_ms": [low, high],
                "p99_ms": worst,
                "photos_per_second": 1000 * self.photos[name] / middle,
                "runs": len(values),
            }
        return {
            "hardware": self.hardware,
            "stages": stages,
            "peak_megabytes": self.peak_megabytes,
            "gpu_megabytes": self.gpu_megabytes,
        }

    def to_text(self) -> str:
        """A table."""
        lines = [", ".join(f"{key} {value}" for key, value in self.hardware.items())]
        lines.append(f"{'':32}{'median ms':>10}{'IQR':>16}{'p99':>9}{'photos/s':>10}")
        for name, v in self.to_dict()["stages"].items():
            low, high = v["iqr_ms"]
            lines.append(
                f"{name:32}{v['median_ms']:10.2f}{f'{low:.2f}-{high:.2f}':>16}"
                f"{v['p99_ms']:9.2f}{v['photos_per_second']:10.1f}"
            )
        for where, value in (("host", self.peak_megabytes), ("GPU", self.gpu_megabytes)):
            if value is not None:
                lines.append(f"peak memory, {where}: {value:.0f} MB")
        return "\n".join(lines)


def evaluate_speed(
    reconstructor: FaceReconstructor,
    photo: str | Path,
    *,
    batches: Sequence[int] = (1, 16),
    runs: int = 30,
) -> SpeedReport:
    """Time read, detect, crop, network, decode and mesh on one photo, alternating.

    Args:
        reconstructor: What is timed, on its device.
        photo: A picture with a face.
        batches: Batch sizes of the network, in float32 and bfloat16.
        runs: Timed calls of each stage, after three for warming up; the slow detector gets fewer.

    Raises:
        NoFaceFound: Nobody is in the picture.
    """
    path, image = Path(photo), read_image(photo)
    face = reconstructor.reconstruct(image)
    crop = face.frame.warp(image)
    network = reconstructor.checkpoint.network
    device = reconstructor.device
    stages: dict[str, Callable[[], object]] = {
        "read": lambda: read_image(path),
        "detect": lambda: reconstructor.detect(image),
        "crop": lambda: face.frame.warp(image),
        "landmarks, box given": lambda: reconstructor.landmarks(image, face.box),
        "pose, box given": lambda: reconstructor.pose(image, face.box),
        "mesh with texture": lambda: face.mesh().texture,
    }
    photos = dict.fromkeys(stages, 1)
    for batch in batches:
        pixels = torch.from_numpy(crop).permute(2, 0, 1)[None].expand(batch, -1, -1, -1)
        pixels = pixels.float().contiguous().to(device)
        for dtype in (torch.float32, torch.bfloat16):
            name = f"network, {str(dtype).split('.')[1]}, batch {batch}"
            stages[name] = _forward(network, pixels, dtype)
            photos[name] = batch
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times: dict[str, list[float]] = {name: [] for name in stages}
    for run in range(runs + _WARM_UP):
        for name, stage in stages.items():
            spent = sum(times[name])
            if run > _WARM_UP + 2 and spent > 10_000:
                continue  # ten seconds tell enough of a slow stage
            start = time.perf_counter()
            stage()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if run >= _WARM_UP:
                times[name].append(1000 * (time.perf_counter() - start))
    held = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None
    milliseconds = {name: np.array(values) for name, values in times.items()}
    return SpeedReport(_hardware(device), milliseconds, photos, _peak_megabytes(), held)


def _peak_megabytes() -> float | None:
    """Largest resident memory of this process; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _forward(
    network: torch.nn.Module, pixels: torch.Tensor, dtype: torch.dtype
) -> Callable[[], object]:
    def run() -> object:
        with (
            torch.inference_mode(),
            torch.autocast(pixels.device.type, dtype, enabled=dtype != torch.float32),
        ):
            return network(pixels)

    return run


def _hardware(device: torch.device) -> dict[str, str]:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [
            line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        name = models[0].split(":", 1)[1].strip() if models else name
    found = {
        "facerecon": facerecon.__version__,
        "torch": torch.__version__,
        "cpu": f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "device": str(device),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found
