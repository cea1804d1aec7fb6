"""Several processes do what one does with the whole batch."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from facerecon.errors import MissingDependency
from facerecon.training.processes import Processes, SyncedBatchNorm2d

COMMAND = ["train", "fast"]
for change in (
    "steps=3",
    "batch=8",
    "validate_every=1",
    "pack_size=64",
    "warmup=1",
    "bfloat16=false",
    "compile=false",
    "learning_rate=1e-7",  # Adam magnifies rounding in tiny gradients: hold the weights still
):
    COMMAND += ["--set", change]


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_two_gloo_processes_equal_one(data: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    launchers = {
        "one": [sys.executable, "-m"],
        "two": [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
                "--master-addr=127.0.0.1", "--master-port=29591", "-m"],
    }  # fmt: skip
    for name, launcher in launchers.items():
        where = [
            "--data",
            str(data),
            "--cache",
            str(tmp_path / "cache"),
            "-o",
            str(tmp_path / name),
        ]
        run = subprocess.run(
            [*launcher, "facerecon", *COMMAND, *where],
            env=environment, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr[-3000:]
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert [row["step"] for row in two] == ["1", "2", "3"]
    for a, b in zip(one, two, strict=True):
        assert float(b["loss"]) == pytest.approx(float(a["loss"]), rel=1e-4)
    first, second = (load_file(tmp_path / name / "state.safetensors") for name in ("one", "two"))
    assert set(first) == set(second)
    # the averages of all gradients so far, which Adam keeps
    kept = [name for name in first if name.endswith("exp_avg")]
    a, b = (torch.cat([part[name].flatten() for name in kept]) for part in (first, second))
    assert (a - b).norm() < 0.02 * a.norm()


def test_synced_batch_norm_alone_is_batch_norm() -> None:
    """In one process of a group of one it equals torch's own, gradients included."""
    import torch.distributed as distributed

    torch.manual_seed(0)
    plain = nn.BatchNorm2d(5)
    nn.init.normal_(plain.weight)
    twin = nn.BatchNorm2d(5)
    twin.load_state_dict(plain.state_dict())
    synced = SyncedBatchNorm2d.like(twin)
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        x = torch.randn(4, 5, 6, 7) * 3 + 1
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        weight = torch.randn_like(x)
        (plain(a) * weight).sum().backward()
        (synced(b) * weight).sum().backward()
    finally:
        distributed.destroy_process_group()
    torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(synced.running_var, plain.running_var)
    torch.testing.assert_close(synced.running_mean, plain.running_mean)
    synced.eval(), plain.eval()
    torch.testing.assert_close(synced(x), plain(x))


def test_several_processes_without_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingDependency, match=r"facerecon\[train\]"):
        Processes("cpu")


def test_tensorboard_without_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from facerecon.training.journal import Journal

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependency, match=r"facerecon\[train\]"):
        Journal(tmp_path, tensorboard=True)


def test_contact_sheet_shows_both_sets() -> None:
    from facerecon.training.journal import contact_sheet

    crops = np.zeros((3, 32, 32, 3), np.uint8)
    truth, found = np.full((3, 68, 3), -0.25, "f4"), np.full((3, 68, 3), 0.25, "f4")
    sheet = contact_sheet(crops, found, truth, columns=2, side=100)
    assert sheet.shape == (200, 200, 3)
    assert sheet[25, 25].tolist() == [255, 60, 60] and sheet[75, 75].tolist() == [60, 255, 90]
    assert sheet[100:, 100:].max() == 0
