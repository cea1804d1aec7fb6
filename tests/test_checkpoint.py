from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import facerecon
from facerecon import Checkpoint, FaceNetwork, FaceReconstructor, NetworkConfig, UVLayout
from facerecon.checkpoint import CONFIG_NAME, WEIGHTS_NAME, resolve
from facerecon.errors import CheckpointInvalid, CheckpointNotFound
from facerecon.uv import ICT_LAYOUT_EARLIER, ICT_LAYOUT_SHA256


@pytest.fixture
def saved(reconstructor: FaceReconstructor, tmp_path: Path) -> Path:
    reconstructor.save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


def test_save_and_load_give_the_same_answer(
    reconstructor: FaceReconstructor, saved: Path, photo: np.ndarray, face: facerecon.Face
) -> None:
    assert {p.name for p in saved.iterdir()} == {CONFIG_NAME, WEIGHTS_NAME}
    again = FaceReconstructor.from_pretrained(saved)
    box = face.frame.centre_x, face.frame.centre_y, face.frame.side
    half = box[2] / reconstructor.checkpoint.margin / 2
    square = (box[0] - half, box[1] - half, box[0] + half, box[1] + half)
    np.testing.assert_array_equal(
        again.reconstruct(photo, square).position_map,
        reconstructor.reconstruct(photo, square).position_map,
    )
    assert again.checkpoint.config() == reconstructor.checkpoint.config()


def test_a_half_precision_reconstructor_leaves_its_checkpoint_alone(saved: Path) -> None:
    checkpoint = Checkpoint.load(saved)
    half = FaceReconstructor(checkpoint, dtype=torch.bfloat16)
    assert {p.dtype for p in half.checkpoint.network.parameters()} == {torch.float32}
    assert half.checkpoint is checkpoint


def test_packaged_weights_state_their_licence_and_are_small(
    reconstructor: FaceReconstructor,
) -> None:
    assert "research" in reconstructor.checkpoint.info["license"]
    folder = resolve()
    assert (folder / WEIGHTS_NAME).stat().st_size < 25e6


def test_half_precision_keeps_statistics_exact(tmp_path: Path, layout: UVLayout) -> None:
    torch.manual_seed(0)
    checkpoint = Checkpoint(FaceNetwork(NetworkConfig.fast()).eval(), layout, 1.4, {"a": 1})
    checkpoint.save(tmp_path, torch.float16)
    stored = load_file(tmp_path / WEIGHTS_NAME)
    assert stored["encoder.stem.weight"].dtype == torch.float16
    assert stored["encoder.norm.running_var"].dtype == torch.float32
    loaded = Checkpoint.load(tmp_path)
    for name, tensor in checkpoint.network.state_dict().items():
        kept = loaded.network.state_dict()[name]
        assert kept.dtype == tensor.dtype
        torch.testing.assert_close(kept, tensor, rtol=1e-3, atol=1e-6)


def test_another_layout_travels_with_its_weights(tmp_path: Path, layout: UVLayout) -> None:
    import dataclasses

    other = dataclasses.replace(layout, name="mine", canonical=layout.canonical * np.float32(2))
    Checkpoint(FaceNetwork(NetworkConfig.fast()).eval(), other, 1.4).save(tmp_path)
    assert Checkpoint.load(tmp_path).layout.digest == other.digest
    (tmp_path / "layout.safetensors").unlink()
    with pytest.raises(CheckpointInvalid, match="layout"):
        Checkpoint.load(tmp_path)


def test_weights_for_the_layout_before_its_axes_were_turned_still_load(saved: Path) -> None:
    change_config(saved, layout={"name": "ict", "digest": ICT_LAYOUT_EARLIER[0]})
    assert Checkpoint.load(saved).layout.digest == ICT_LAYOUT_SHA256


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / CONFIG_NAME).read_text())
    (folder / CONFIG_NAME).write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / CONFIG_NAME).write_text("{"), "no JSON"),
        (lambda f: (f / CONFIG_NAME).write_text("[]"), "not a facerecon checkpoint"),
        (lambda f: (f / CONFIG_NAME).write_text('{"model_type": "bert"}'), "format is None"),
        (lambda f: change_config(f, extra=1), "keys"),
        (lambda f: change_config(f, crop={"margin": "wide"}), "margin"),
        (lambda f: change_config(f, network={"name": "x"}), "missing"),
        (lambda f: change_config(f, layout={"name": "ict", "digest": "0"}), "layout"),
        (lambda f: (f / WEIGHTS_NAME).write_bytes(b""), "damaged"),
        (lambda f: (f / WEIGHTS_NAME).write_bytes(b"\x80\x04pickle" * 99), "damaged"),
        (
            lambda f: (f / WEIGHTS_NAME).write_bytes((f / WEIGHTS_NAME).read_bytes()[:-100]),
            "damaged",
        ),
        (lambda f: save_file({"w": torch.zeros(2)}, f / WEIGHTS_NAME), "missing"),
    ],
)
def test_damaged_and_foreign_files_are_refused(saved: Path, damage, reason: str) -> None:
    damage(saved)
    with pytest.raises(CheckpointInvalid, match=reason):
        FaceReconstructor.from_pretrained(saved)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda t: t.pop("encoder.norm.bias"), "encoder.norm.bias"),
        (lambda t: t.update(surplus=torch.zeros(1)), "surplus"),
        (lambda t: t.update({"decoder.last.bias": torch.zeros(4)}), r"\(4,\), \(3,\)"),
        (lambda t: t["decoder.last.bias"].fill_(float("nan")), "NaN"),
    ],
)
def test_tensors_are_loaded_strictly(saved: Path, edit, reason: str) -> None:
    tensors = load_file(saved / WEIGHTS_NAME)
    edit(tensors)
    save_file(tensors, saved / WEIGHTS_NAME)
    with pytest.raises(CheckpointInvalid, match=reason):
        FaceReconstructor.from_pretrained(saved)


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "huge", "a/b/c"])
def test_unknown_names_say_what_would_work(name: str) -> None:
    with pytest.raises(CheckpointNotFound, match=r"packaged.*folder.*Hub"):
        FaceReconstructor.from_pretrained(name)


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"config\.json"):
        FaceReconstructor.from_pretrained(tmp_path)


def test_packaged_weights_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_args: object, **_more: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    FaceReconstructor.from_pretrained()
