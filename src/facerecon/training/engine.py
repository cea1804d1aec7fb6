"""The training loop, readable from top to bottom.

Everything random in a step is drawn from ``(seed, step)``, so a resumed run goes on as if it had
never stopped.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from facerecon.checkpoint import Checkpoint, resolve
from facerecon.errors import ConfigError
from facerecon.evaluation.metrics import YAW_BINS, mean_of_bins, point_errors, yaw_bin
from facerecon.network import FaceNetwork, NetworkConfig
from facerecon.training.augment import (
    PhotoDraw,
    apply_photo_draw,
    cut_crops,
    draw_crops,
    draw_photos,
)
from facerecon.training.config import TrainConfig
from facerecon.training.datasets import PhotoPool
from facerecon.training.journal import Journal, contact_sheet
from facerecon.training.losses import ssim_loss, weighted_l1, weighted_l2
from facerecon.training.processes import Processes
from facerecon.training.sources import Sources, chances, open_sources
from facerecon.training.targets import CropDraw, TargetMaker
from facerecon.uv import UVCodec

_CHANGEABLE = {
    "batch",
    "checkpoint_every",
    "compile",
    "decay",
    "license",
    "milestones",
    "steps",
    "trained_on",
    "validate_every",
}
"""What may change when a run goes on: its length and how it is reported."""

_Draw = TypeVar("_Draw", CropDraw, PhotoDraw)

__all__ = ["Trainer", "smoke_test", "train"]


def train(
    config: TrainConfig,
    data: str | Path | Sequence[tuple[Path, float]],
    cache: str | Path,
    output: str | Path,
    device: str = "cpu",
    *,
    workers: int = 1,
    tensorboard: bool = False,
) -> Path:
    """Train a network, or go on where an interrupted run stopped.

    Args:
        config: The run.
        data: A data folder, see :mod:`facerecon.training.datasets.labels`, or several with their
            weights relative to each other.
        cache: Folder of the packed photos, made when missing.
        output: Folder for ``state.safetensors``, ``log.csv``, ``pictures`` and, in the end,
            ``weights``.
        device: Where to train; with several processes on GPUs each takes its own.
        workers: Processes for turning photos and rendering heads beforehand.
        tensorboard: Log to ``output/tensorboard`` too.

    Returns:
        The folder of the finished weights, ready for ``FaceReconstructor.from_pretrained``.

    Raises:
        ConfigError: ``output`` holds a run of another configuration, or the batch cannot be
            shared among the processes.
        DataError: The data are missing or damaged.
        MissingDependency: Several processes or TensorBoard without ``facerecon[train]``.
    """
    processes = Processes(device)
    sources = _open(config, data, cache, workers, processes)
    trainer = Trainer(config, sources, Path(output), processes)
    return trainer.run(tensorboard)


def smoke_test(
    config: TrainConfig,
    data: str | Path | Sequence[tuple[Path, float]],
    cache: str | Path,
    steps: int = 200,
    device: str = "cpu",
) -> tuple[float, float]:
    """Overfit one batch of eight: a network, data and losses that work bring it near zero.

    Returns:
        The mean loss of the first and of the last three steps.
    """
    config = dataclasses.replace(
        config, steps=steps, batch=8, warmup=10, compile=False, appearance=False, start=""
    )
    processes = Processes(device)
    sources = _open(config, data, cache, 1, processes)
    trainer = Trainer(config, sources, Path(cache), processes)
    fixed = trainer.batch(0)
    bar = tqdm(range(steps), desc="overfitting one batch", unit="step")
    losses = [float(trainer.train_step(step, trainer.network, fixed)) for step in bar]
    return float(np.mean(losses[:3])), float(np.mean(losses[-3:]))


def _open(
    config: TrainConfig,
    data: str | Path | Sequence[tuple[Path, float]],
    cache: str | Path,
    workers: int,
    processes: Processes,
) -> Sources:
    """The sources; where there are several processes, the first one makes the packs."""
    folders = [(Path(data), 1.0)] if isinstance(data, str | Path) else list(data)
    if not processes.first:
        processes.wait()
    sources = open_sources(config, folders, Path(cache), workers)
    if processes.first:
        processes.wait()
    return sources


class Trainer:
    """One run: network, averaged network, optimiser, data."""

    def __init__(
        self,
        config: TrainConfig,
        sources: Sources,
        output: Path,
        processes: Processes | None = None,
    ) -> None:
        self.config, self.sources, self.output, self.step = config, sources, output, 0
        self.pool, self.layout = sources.pool, sources.layout
        self.processes = processes or Processes("cpu")
        self.device = device = self.processes.device
        if config.batch % self.processes.count:
            raise ConfigError(
                f"a batch of {config.batch} cannot be shared evenly by "
                f"{self.processes.count} processes"
            )
        torch.manual_seed(config.seed)  # the network's initialisation
        network = FaceNetwork(NetworkConfig.named(config.network))
        self.seen_before = 0
        if config.start:
            start = _start(config, network)
            network.load_state_dict(start.network.state_dict())
            self.seen_before = int(start.info.get("samples_seen", 0))
        self.processes.synced(network)
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
        )
        if config.start:
            self.average.n_averaged.fill_(1)  # the average starts from these weights too
        optimiser = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
        self.optimiser = optimiser(
            self.network.parameters(), lr=1.0, weight_decay=config.weight_decay, fused=True
        )
        codec = UVCodec(self.layout, network.config.map_size)
        self.targets = TargetMaker(self.pool, sources.model, codec, config.margin, device)
        rows, chance = chances(sources, config.balance, config.noise, config.max_yaw)
        self.rows, self.chance = torch.from_numpy(rows), torch.from_numpy(chance)
        self.loss = _loss(config)
        self.resident = _resident(self.pool, device)

    def run(self, tensorboard: bool = False) -> Path:
        """Train to the last step; write the weights."""
        config, first = self.config, self.processes.first
        self.output.mkdir(parents=True, exist_ok=True)
        self._resume()
        forward = self.processes.wrapped(self.network)
        if config.compile:
            forward = torch.compile(forward)  # type: ignore[assignment]
        journal = Journal(self.output, tensorboard) if first else None
        losses: list[Tensor] = []
        steps = tqdm(
            range(self.step, config.steps),
            initial=self.step,
            total=config.steps,
            desc=f"training {config.network}",
            unit="step",
            mininterval=5,
            disable=not first,
        )
        try:
            for step in steps:
                losses.append(self.train_step(step, forward, self.batch(step)))
                self.step = step + 1
                last = self.step == config.steps
                if first and (self.step % config.checkpoint_every == 0 or last):
                    self._save()
                if self.step % config.validate_every == 0 or last:
                    loss = float(self.processes.mean(torch.stack(losses).mean()))
                    losses.clear()
                    if journal is not None:
                        row = {"step": self.step, "loss": loss, **self.validate()}
                        journal.numbers(row)
                        journal.picture(self.step, self.picture())
                        tqdm.write("  ".join(f"{key} {value:.5g}" for key, value in row.items()))
                    self.processes.wait()
        except KeyboardInterrupt:
            if first:
                self._save()
            raise
        finally:
            if journal is not None:
                journal.close()
        weights = self.output / "weights"
        if first:
            self.checkpoint().save(weights, torch.float16)
        self.processes.wait()
        return weights

    def checkpoint(self) -> Checkpoint:
        """The averaged network as it is now."""
        average: FaceNetwork = self.average.module  # type: ignore[assignment]
        network = average if self.config.ema else self.network
        config = self.config
        info = {
            "trained_on": config.trained_on,
            "license": config.license,
            "samples_seen": self.seen_before + self.step * config.batch,
            **({"started_from": config.start} if config.start else {}),
        }
        return Checkpoint(network.eval(), self.layout, config.margin, info)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels, target maps and target landmarks of this process's part of a step."""
        config, device = self.config, self.device
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        size = self.network.config.input_size
        picks = torch.multinomial(self.chance, config.batch, True, generator=generator)
        crop = draw_crops(config.batch, config.turn, config.zoom, config.shift, generator)
        if not config.mirror or not self.targets.mirrors:
            crop = dataclasses.replace(crop, mirror=torch.zeros_like(crop.mirror))
        photo = draw_photos(config.batch, size, generator)

        count = config.batch // self.processes.count
        mine = slice(self.processes.rank * count, (self.processes.rank + 1) * count)
        rows = self.rows[picks[mine]]
        crop, photo = _part(crop, mine, device), _part(photo, mine, device)
        theta, maps, landmarks = self.targets(rows.to(device), crop)
        pixels = cut_crops(self._squares(rows), theta, crop.mirror, size)
        if config.appearance:
            pixels = apply_photo_draw(pixels, photo)
        return pixels.contiguous(memory_format=torch.channels_last), maps, landmarks

    def train_step(
        self,
        step: int,
        forward: Callable[[Tensor], Tensor],
        batch: tuple[Tensor, Tensor, Tensor],
    ) -> Tensor:
        """One step of the optimiser; the loss of this process's part of the batch."""
        self.network.train()
        pixels, maps, landmarks = batch
        with torch.autocast(self.device.type, torch.bfloat16, self.config.bfloat16):
            predicted = forward(pixels)
        predicted = predicted.float()
        loss = self.loss(predicted, maps, self.targets.weights)
        if self.config.landmark_loss:
            points = self.targets.sample_landmarks(predicted)
            loss = loss + self.config.landmark_loss * (points - landmarks).abs().mean()
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate_at(step)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        return loss.detach()

    def _still(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Crops as inference takes them, the averaged network's landmarks, and the true ones."""
        network = self.checkpoint().network
        part = torch.from_numpy(rows)
        draw = CropDraw.still(len(part), self.device)
        theta, _, truth = self.targets(part.to(self.device), draw)
        size = network.config.input_size
        pixels = cut_crops(self._squares(part), theta, draw.mirror, size)
        return pixels, self.targets.sample_landmarks(network(pixels)), truth

    def _squares(self, rows: Tensor) -> Tensor:
        """Packed squares of some rows, on the device."""
        if self.resident is not None:
            return self.resident[rows.to(self.resident.device)]
        return torch.from_numpy(self.pool.squares(rows.numpy())).to(self.device)

    def _validation_rows(self) -> NDArray[np.int64]:
        labels = self.pool.labels
        return np.flatnonzero(labels.good & (labels.split == "val"))

    @torch.no_grad()
    def picture(self, count: int = 12) -> NDArray[np.uint8]:
        """Validation photos, evenly over yaw, with their landmarks."""
        rows = self._validation_rows()
        rows = rows[np.argsort(self.pool.labels.yaw[rows], kind="stable")]
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, count).astype(int))]
        pixels, found, truth = self._still(rows)
        crops = pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        return contact_sheet(crops, found.cpu().numpy(), truth.cpu().numpy())

    @torch.no_grad()
    def validate(self, batch: int = 64) -> dict[str, float]:
        """68-point 2D NME in percent on the validation split, by |yaw| bin, and their mean."""
        rows = self._validation_rows()
        starts = range(0, len(rows), batch)
        parts = [self._still(rows[start : start + batch])[1:] for start in starts]
        found, truth = (torch.cat([p[k][:, :, :2] for p in parts]).cpu().numpy() for k in (0, 1))
        nme, bins = point_errors(found, truth), yaw_bin(self.pool.labels.yaw[rows])
        result = {}
        for k, (low, high) in enumerate(YAW_BINS):
            inside = nme[bins == k]
            result[f"nme_{low}_{high}"] = float(inside.mean()) if len(inside) else float("nan")
        return {**result, "nme": mean_of_bins(nme, bins)}

    def _save(self) -> None:
        """Write the whole state beside the last one, then move it over it."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in state.items()}
        tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        metadata = {"step": str(self.step), "config": json.dumps(dataclasses.asdict(self.config))}
        unfinished = self.output / "state.partial"
        save_file(tensors, unfinished, metadata)
        os.replace(unfinished, self.output / "state.safetensors")

    def _resume(self) -> None:
        path = self.output / "state.safetensors"
        if not path.exists():
            return
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        mine: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self.config)))
        theirs = json.loads(metadata["config"])
        changed = {k for k in mine if k not in _CHANGEABLE and mine[k] != theirs.get(k)}
        if changed:
            raise ConfigError(
                f"{path} is a run with other values of {sorted(changed)}: "
                "give another output folder, or the same configuration"
            )
        groups: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimiser": {}}
        for key, tensor in tensors.items():
            group, name = key.split(".", 1)
            groups[group][name] = tensor
        self.network.load_state_dict(groups["network"])
        self.average.load_state_dict(groups["average"])
        weights = list(self.network.parameters())
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in groups["optimiser"].items():
            index, name = key.split(".", 1)
            if name != "step":
                # the fused optimiser walks memory: moments must be laid out as their weights are
                tensor = torch.empty_like(weights[int(index)]).copy_(tensor)
            state.setdefault(int(index), {})[name] = tensor
        parameters = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": parameters})
        self.step = int(metadata["step"])


def _resident(pool: PhotoPool, device: torch.device) -> Tensor | None:
    """All packed squares on a GPU with room for them, so that a step needs nothing of the host."""
    if device.type != "cuda" or pool.bytes > torch.cuda.mem_get_info(device)[0] / 2:
        return None
    squares = torch.empty((len(pool.labels), *pool.shape), dtype=torch.uint8, device=device)
    for start in range(0, len(pool.labels), 1024):
        rows = np.arange(start, min(start + 1024, len(pool.labels)))
        squares[start : start + 1024] = torch.from_numpy(pool.squares(rows)).to(device)
    return squares


def _start(config: TrainConfig, network: FaceNetwork) -> Checkpoint:
    """The weights a run starts from."""
    start = Checkpoint.load(resolve(config.start))
    if start.network.config != network.config:
        raise ConfigError(
            f"the weights {config.start!r} are of the network {start.network.config.name!r}, "
            f"{config.network!r} is to be trained"
        )
    return start


def _loss(config: TrainConfig) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if config.loss == "ssim":
        return ssim_loss
    if config.loss == "l2":
        return lambda predicted, target, weights: weighted_l2(
            predicted, target, (weights > 0).to(predicted.dtype)
        )
    plain = weighted_l1 if config.loss == "weighted_l1" else weighted_l2

    def with_depth(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        scale = predicted.new_tensor([1.0, 1.0, config.depth_weight])[:, None, None]
        return plain(predicted * scale, target * scale, weights)

    return with_depth


def _part(draw: _Draw, rows: slice, device: torch.device) -> _Draw:
    """Some rows of a draw, on a device."""
    values = {f.name: getattr(draw, f.name) for f in dataclasses.fields(draw)}
    moved: dict[str, Any] = {
        k: v[rows].to(device) for k, v in values.items() if isinstance(v, Tensor)
    }
    return dataclasses.replace(draw, **moved)
