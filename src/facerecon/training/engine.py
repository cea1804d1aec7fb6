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
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from facerecon.errors import ConfigError
from facerecon.training.config import TrainConfig
from facerecon.training.journal import Journal
from facerecon.training.processes import Processes
from facerecon.training.task import Task, open_task

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
    task = _open(config, data, cache, workers, processes)
    trainer = Trainer(config, task, Path(output), processes)
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
    task = _open(config, data, cache, 1, processes)
    trainer = Trainer(config, task, Path(cache), processes)
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
) -> Task:
    """The task; where there are several processes, the first one makes the packs."""
    folders = [(Path(data), 1.0)] if isinstance(data, str | Path) else list(data)
    if not processes.first:
        processes.wait()
    torch.manual_seed(config.seed)  # the network's initialisation
    task = open_task(config, folders, Path(cache), workers, processes.device)
    if processes.first:
        processes.wait()
    return task


class Trainer:
    """One run: network, averaged network, optimiser; what is trained is the task's affair."""

    def __init__(
        self, config: TrainConfig, task: Task, output: Path, processes: Processes | None = None
    ) -> None:
        self.config, self.task, self.output, self.step = config, task, output, 0
        self.processes = processes or Processes("cpu")
        self.device = device = self.processes.device
        if config.batch % self.processes.count:
            raise ConfigError(
                f"a batch of {config.batch} cannot be shared evenly by "
                f"{self.processes.count} processes"
            )
        self.processes.synced(task.network)
        self.network = task.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
        )
        if config.start:
            self.average.n_averaged.fill_(1)  # the average starts from these weights too
        optimiser = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
        self.optimiser = optimiser(
            self.network.parameters(), lr=1.0, weight_decay=config.weight_decay, fused=True
        )

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
                        row = {
                            "step": self.step,
                            "loss": loss,
                            **self.task.validate(self.averaged()),
                        }
                        journal.numbers(row)
                        journal.picture(self.step, self.task.picture(self.averaged()))
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
            self.task.save(self.averaged(), weights, self.info())
        self.processes.wait()
        return weights

    def averaged(self) -> nn.Module:
        """The averaged network as it is now, ready for inference."""
        network: nn.Module = self.average.module if self.config.ema else self.network
        return network.eval()

    def info(self) -> dict[str, Any]:
        """Facts about the weights as they are now."""
        config = self.config
        return {
            "trained_on": config.trained_on,
            "license": config.license,
            "samples_seen": self.task.seen_before + self.step * config.batch,
            **({"started_from": config.start} if config.start else {}),
        }

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """This process's part of a step's batch: pixels, then what the loss needs."""
        count = self.config.batch // self.processes.count
        rank = self.processes.rank
        return self.task.batch(step, slice(rank * count, (rank + 1) * count))

    def train_step(
        self, step: int, forward: Callable[[Tensor], Tensor], batch: tuple[Tensor, ...]
    ) -> Tensor:
        """One step of the optimiser; the loss of this process's part of the batch."""
        self.network.train()
        pixels, *wanted = batch
        with torch.autocast(self.device.type, torch.bfloat16, self.config.bfloat16):
            predicted = forward(pixels)
        loss = self.task.loss(predicted.float(), *wanted)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate_at(step)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        return loss.detach()

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
