"""The training loop, readable from top to bottom.

Everything random in a step is drawn from ``(seed, step)``, so a resumed run goes on as if it had
never stopped.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from facerecon.checkpoint import Checkpoint
from facerecon.errors import ConfigError
from facerecon.network import FaceNetwork, NetworkConfig
from facerecon.training.augment import (
    PhotoDraw,
    apply_photo_draw,
    cut_crops,
    draw_crops,
    draw_photos,
)
from facerecon.training.config import TrainConfig
from facerecon.training.datasets import MorphableModel, PackedPhotos, pack
from facerecon.training.losses import ssim_loss, weighted_l1, weighted_l2
from facerecon.training.targets import CropDraw, TargetMaker
from facerecon.uv import UVCodec, UVLayout

_CHANGEABLE = {
    "batch",
    "checkpoint_every",
    "compile",
    "decay",
    "license",
    "steps",
    "trained_on",
} | {"validate_every"}
"""What may change when a run goes on: its length and how it is reported."""

_Draw = TypeVar("_Draw", CropDraw, PhotoDraw)

__all__ = ["YAW_BINS", "Trainer", "train"]

YAW_BINS = ((0.0, 30.0), (30.0, 60.0), (60.0, 181.0))
"""|yaw| bins of AFLW2000-3D's protocol, degrees; the first includes both of its ends."""


def train(
    config: TrainConfig,
    data: str | Path,
    cache: str | Path,
    output: str | Path,
    device: str = "cpu",
) -> Path:
    """Train a network, or go on where an interrupted run stopped.

    Args:
        config: The run.
        data: Data folder: labels.npz, photos_<source>.tar, ict_face.npz.
        cache: Folder of the packed photos, made when missing.
        output: Folder for ``state.safetensors``, ``log.csv`` and, in the end, ``weights``.
        device: Where to train.

    Returns:
        The folder of the finished weights, ready for ``FaceReconstructor.from_pretrained``.

    Raises:
        ConfigError: ``output`` holds a run of another configuration.
        DataError: The data are missing or damaged.
    """
    layout = UVLayout.ict()
    photos = pack(data, cache, layout, config.pack_size)
    identities = photos.labels.identity.shape[1]
    model = MorphableModel.load(Path(data) / "ict_face.npz", layout, identities)
    trainer = Trainer(config, photos, model, layout, Path(output), torch.device(device))
    return trainer.run()


@dataclass
class _Log:
    """Appends rows to a CSV file."""

    path: Path

    def write(self, row: dict[str, float]) -> None:
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)


class Trainer:
    """One run: network, averaged network, optimiser, data."""

    def __init__(
        self,
        config: TrainConfig,
        photos: PackedPhotos,
        model: MorphableModel,
        layout: UVLayout,
        output: Path,
        device: torch.device,
    ) -> None:
        self.config, self.photos, self.layout = config, photos, layout
        self.output, self.device, self.step = output, device, 0
        torch.manual_seed(config.seed)  # the network's initialisation
        network = FaceNetwork(NetworkConfig.named(config.network))
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
        )
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=1.0, weight_decay=config.weight_decay, fused=True
        )
        codec = UVCodec(layout, network.config.map_size)
        self.targets = TargetMaker(photos, model, codec, config.margin, device)
        usable = photos.labels.good & (photos.labels.split == "train")
        self.rows = torch.from_numpy(np.flatnonzero(usable))
        self.chance = torch.from_numpy(balanced(photos.labels.yaw[usable], config.balance))
        self.loss = _loss(config)

    def run(self) -> Path:
        """Train to the last step; write the weights."""
        self.output.mkdir(parents=True, exist_ok=True)
        self._resume()
        forward = torch.compile(self.network) if self.config.compile else self.network
        log = _Log(self.output / "log.csv")
        losses: list[float] = []
        steps = tqdm(
            range(self.step, self.config.steps),
            initial=self.step,
            total=self.config.steps,
            desc=f"training {self.config.network}",
            unit="step",
            mininterval=5,
        )
        try:
            for step in steps:
                losses.append(self._train_step(step, forward))
                self.step = step + 1
                last = self.step == self.config.steps
                if self.step % self.config.checkpoint_every == 0 or last:
                    self._save()
                if self.step % self.config.validate_every == 0 or last:
                    row = {"step": self.step, "loss": float(np.mean(losses)), **self.validate()}
                    log.write(row)
                    tqdm.write("  ".join(f"{key} {value:.5g}" for key, value in row.items()))
                    losses.clear()
        except KeyboardInterrupt:
            self._save()
            raise
        weights = self.output / "weights"
        self.checkpoint().save(weights, torch.float16)
        return weights

    def checkpoint(self) -> Checkpoint:
        """The averaged network as it is now."""
        average: FaceNetwork = self.average.module  # type: ignore[assignment]
        network = average if self.config.ema else self.network
        config = self.config
        info = {
            "trained_on": config.trained_on,
            "license": config.license,
            "samples_seen": self.step * config.batch,
        }
        return Checkpoint(network.eval(), self.layout, config.margin, info)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels, target maps and target landmarks of a step."""
        config, device = self.config, self.device
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        size = self.network.config.input_size
        picks = torch.multinomial(self.chance, config.batch, True, generator=generator)
        rows = self.rows[picks]
        crop = _to(
            draw_crops(config.batch, config.turn, config.zoom, config.shift, generator), device
        )
        photo = _to(draw_photos(config.batch, size, generator), device)
        squares = torch.from_numpy(self.photos.pixels[rows.numpy()]).to(device)
        theta, maps, landmarks = self.targets(rows.to(device), crop)
        pixels = apply_photo_draw(cut_crops(squares, theta, crop.mirror, size), photo)
        return pixels.contiguous(memory_format=torch.channels_last), maps, landmarks

    def _train_step(self, step: int, forward: Callable[[Tensor], Tensor]) -> float:
        self.network.train()
        pixels, maps, landmarks = self.batch(step)
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
        return float(loss.detach())

    @torch.no_grad()
    def validate(self, batch: int = 64) -> dict[str, float]:
        """68-point 2D NME in percent on the validation split, by |yaw| bin, and their mean."""
        labels = self.photos.labels
        rows = np.flatnonzero(labels.good & (labels.split == "val"))
        network = self.checkpoint().network
        errors = []
        for start in range(0, len(rows), batch):
            part = torch.from_numpy(rows[start : start + batch]).to(self.device)
            draw = CropDraw.still(len(part), self.device)
            squares = torch.from_numpy(self.photos.pixels[part.cpu().numpy()]).to(self.device)
            theta, _, truth = self.targets(part, draw)
            pixels = cut_crops(squares, theta, draw.mirror, network.config.input_size)
            found = self.targets.sample_landmarks(network(pixels))
            box = truth[:, :, :2].amax(1) - truth[:, :, :2].amin(1)
            distance = (found - truth)[:, :, :2].norm(dim=2).mean(1)
            errors.append((distance / box.prod(1).sqrt() * 100).cpu())
        nme = torch.cat(errors).numpy()
        yaw = np.abs(labels.yaw[rows])
        result = {}
        for low, high in YAW_BINS:
            inside = (yaw <= high) & ((yaw > low) | (low == 0))
            result[f"nme_{low:.0f}_{min(high, 90):.0f}"] = float(nme[inside].mean())
        return {**result, "nme": float(np.mean(list(result.values())))}

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
        mine, theirs = dataclasses.asdict(self.config), json.loads(metadata["config"])
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


def balanced(
    yaw: np.ndarray[tuple[int], np.dtype[np.float32]], power: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Chances of samples: (1 / how many share the 10-degree bin of |yaw|) ** power."""
    bins = np.minimum(np.abs(yaw) // 10, 8).astype(int)
    return 1.0 / np.bincount(bins)[bins] ** power


def _loss(config: TrainConfig) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if config.loss == "ssim":
        return ssim_loss
    plain = weighted_l1 if config.loss == "weighted_l1" else weighted_l2

    def with_depth(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        scale = predicted.new_tensor([1.0, 1.0, config.depth_weight])[:, None, None]
        return plain(predicted * scale, target * scale, weights)

    return with_depth


def _to(draw: _Draw, device: torch.device) -> _Draw:
    """A dataclass of tensors on another device."""
    values = {f.name: getattr(draw, f.name) for f in dataclasses.fields(draw)}
    moved: dict[str, Any] = {k: v.to(device) for k, v in values.items() if isinstance(v, Tensor)}
    return dataclasses.replace(draw, **moved)
