"""The whole of training, on a small data folder in the real formats that the test writes."""

from __future__ import annotations

import dataclasses
import io
import math
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from facerecon import Checkpoint, FaceReconstructor, NetworkConfig
from facerecon.errors import ConfigError, DataError
from facerecon.training import TrainConfig, smoke_test, train
from facerecon.training.augment import (
    _occlude,
    apply_photo_draw,
    cut_crops,
    draw_crops,
    draw_photos,
    rows_of,
)
from facerecon.training.datasets import pack, read_labels, read_photos
from facerecon.training.engine import Trainer
from facerecon.training.position_maps import PositionMapTask
from facerecon.training.sources import Sources, balanced, chances, open_sources
from facerecon.uv import UVLayout

COUNT = 12
SMALL = TrainConfig(
    steps=4, batch=4, validate_every=2, checkpoint_every=2, pack_size=96, warmup=1, bfloat16=False
)


def opened(config: TrainConfig, data: Path, tmp_path: Path) -> Sources:
    return open_sources(config, [(data, 1.0)], tmp_path / "cache")


def task_of(config: TrainConfig, data: Path, tmp_path: Path) -> PositionMapTask:
    return PositionMapTask(config, opened(config, data, tmp_path), torch.device("cpu"))


def states(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "state.safetensors")


def test_train_writes_weights_that_load(data: Path, tmp_path: Path) -> None:
    weights = train(SMALL, data, tmp_path / "cache", tmp_path / "run")
    reconstructor = FaceReconstructor.from_pretrained(weights)
    assert reconstructor.landmarks(np.zeros((60, 60, 3), np.uint8), (10, 10, 50, 50)).shape == (
        68,
        3,
    )
    assert reconstructor.checkpoint.info["samples_seen"] == 16
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert rows[0].startswith("step,loss,nme_0_30")
    assert [row.split(",")[0] for row in rows[1:]] == ["2", "4"]


def test_a_resumed_run_equals_an_uninterrupted_one(data: Path, tmp_path: Path) -> None:
    train(SMALL, data, tmp_path / "cache", tmp_path / "whole")
    # the schedule depends on all steps, so the first half must know them: stop by an interrupt
    original = Trainer.train_step

    def interrupting(self: Trainer, step: int, forward, batch) -> torch.Tensor:
        if step == 2 and not resumed:
            raise KeyboardInterrupt
        return original(self, step, forward, batch)

    resumed: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupting)
        with pytest.raises(KeyboardInterrupt):
            train(SMALL, data, tmp_path / "cache", tmp_path / "halves")
        resumed.append(True)
        train(SMALL, data, tmp_path / "cache", tmp_path / "halves")
    whole, halves = states(tmp_path / "whole"), states(tmp_path / "halves")
    assert set(whole) == set(halves)
    for name, tensor in whole.items():
        torch.testing.assert_close(halves[name], tensor, rtol=0, atol=0, msg=name)


def test_another_configuration_does_not_resume(data: Path, tmp_path: Path) -> None:
    train(SMALL, data, tmp_path / "cache", tmp_path / "run")
    other = dataclasses.replace(SMALL, learning_rate=1e-5)
    with pytest.raises(ConfigError, match="learning_rate"):
        train(other, data, tmp_path / "cache", tmp_path / "run")


@pytest.mark.parametrize(
    ("loss", "steps"),
    # SSIM is flat at first: a map without structure is as unlike as any other
    [("weighted_l1", 40), ("weighted_l2", 40), ("l2", 40), ("ssim", 80)],
)
def test_every_loss_overfits_one_batch(data: Path, tmp_path: Path, loss: str, steps: int) -> None:
    config = dataclasses.replace(SMALL, loss=loss, schedule="cosine", ema=0.9)
    first, last = smoke_test(config, data, tmp_path / "cache", steps)
    assert last < first / 5


def test_a_run_starts_from_weights(data: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, start="fast", learning_rate=0.0, weight_decay=0.0)
    trainer = Trainer(config, task_of(config, data, tmp_path), tmp_path / "run")
    packaged = FaceReconstructor.from_pretrained("fast").checkpoint
    theirs = packaged.network.state_dict()
    assert trainer.info()["samples_seen"] == packaged.info["samples_seen"]
    for name, tensor in trainer.averaged().state_dict().items():
        torch.testing.assert_close(tensor, theirs[name], msg=name)
    trainer.train_step(0, trainer.network, trainer.batch(0))
    kernels = [k for k, v in theirs.items() if v.dim() == 4]
    averaged = trainer.averaged().state_dict()
    for name in kernels:  # the average holds the start, not random weights
        torch.testing.assert_close(averaged[name], theirs[name], msg=name)
    with pytest.raises(ConfigError, match="'paper' is to be trained"):
        other = dataclasses.replace(config, network="paper")
        task_of(other, data, tmp_path)


def test_photos_kept_on_the_device_give_the_same_batches(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, everything = task_of(SMALL, data, tmp_path), slice(0, SMALL.batch)
    assert task.resident is None  # host memory needs no copy
    expected = task.batch(3, everything)
    task.resident = torch.from_numpy(task.pool.squares(np.arange(COUNT)))
    monkeypatch.setattr(task.pool, "squares", lambda _: pytest.fail("the host was asked"))
    for a, b in zip(task.batch(3, everything), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_tensorboard_and_pictures(data: Path, tmp_path: Path) -> None:
    train(SMALL, data, tmp_path / "cache", tmp_path / "run", tensorboard=True)
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    picture = cv2.imread(str(tmp_path / "run" / "pictures" / "0000004.png"))
    assert picture.shape == (448, 896, 3)  # six validation photos, four a row
    assert picture[:224].std() > 5


def test_packing_is_reused_and_remade_when_the_labels_change(
    data: Path, tmp_path: Path, layout: UVLayout
) -> None:
    cache = tmp_path / "cache"
    first = pack(data, cache, layout, 64)
    assert first.pixels.shape == (COUNT, 64, 64, 3)
    stamp = (cache / "photos.npy").stat().st_mtime_ns
    pack(data, cache, layout, 64)
    assert (cache / "photos.npy").stat().st_mtime_ns == stamp
    pack(data, cache, layout, 48)
    assert (cache / "photos.npy").stat().st_mtime_ns != stamp
    # the packed square shows what its frame says
    _, photo = next(read_photos(data, read_labels(data).path[:1]))
    np.testing.assert_array_equal(
        first.frame(0).warp(photo), pack(data, cache, layout, 64).pixels[0]
    )


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("rotation", np.zeros((COUNT, 3, 3), "f4"), "no rotation"),
        ("scale", np.full(COUNT, np.nan, "f4"), "made/00.jpg"),
        ("scale", np.full(COUNT, -1, "f4"), "not positive"),
        ("yaw", np.zeros(3, "f4"), "rows"),
    ],
)
def test_bad_labels_are_named(data: Path, field: str, value: np.ndarray, reason: str) -> None:
    with np.load(data / "labels.npz") as archive:
        arrays = dict(archive)
    np.savez(data / "labels.npz", **{**arrays, field: value})
    with pytest.raises(DataError, match=reason):
        read_labels(data)


def test_bad_rows_are_refused_or_left_out(
    data: Path, tmp_path: Path, layout: UVLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(data / "labels.npz") as archive:
        arrays = dict(archive)
    arrays["scale"][1] = np.nan
    arrays["translation"][3] = [500, 60, 0]  # the face lies outside its photo
    arrays["path"][5] = "made/go.jpg"
    np.savez(data / "labels.npz", **arrays)
    with tarfile.open(data / "photos_made.tar", "a") as tar:
        member = tarfile.TarInfo("made/br.jpg")
        member.size = 9
        tar.addfile(member, io.BytesIO(b"no JPEG.."))
    arrays["path"][7] = "made/br.jpg"
    np.savez(data / "labels.npz", **arrays)
    with pytest.raises(DataError, match=r"made/01\.jpg of .*scale is not finite"):
        pack(data, tmp_path / "cache", layout, 48)
    photos = pack(data, tmp_path / "cache", layout, 48, "skip")
    assert np.flatnonzero(~photos.labels.good).tolist() == [1, 3, 5, 7]
    told = capsys.readouterr().err
    for name in ("made/01.jpg", "made/03.jpg", "made/go.jpg", "made/br.jpg"):
        assert told.count(name) == 1, name
    # what was left out is remembered by the cache
    assert not pack(data, tmp_path / "cache", layout, 48, "skip").labels.good[3]


def test_missing_photos_are_named(data: Path) -> None:
    with pytest.raises(DataError, match=r"made/99\.jpg"):
        list(read_photos(data, ["made/99.jpg"]))
    with pytest.raises(DataError, match=r"no photos_\*\.tar"):
        list(read_photos(data.parent, ["other/1.jpg"]))


def test_balance() -> None:
    yaw = np.array([0, 1, 2, -3, 80], np.float32)
    np.testing.assert_allclose(balanced(yaw, 0), 1)
    even = balanced(yaw, 1)
    assert even[:4].sum() == pytest.approx(even[4])


def test_sources_are_mixed_by_their_shares(data: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(data, other)
    with np.load(other / "labels.npz") as archive:
        arrays = dict(archive)
    residual = np.full(COUNT, np.nan, "f4")
    residual[3] = 2.0
    np.savez(other / "labels.npz", **arrays, residual_hand=residual)
    sources = open_sources(SMALL, [(data, 3.0), (other, 1.0)], tmp_path / "cache")
    rows, chance = chances(sources, balance=0.0, noise=2.0)
    assert rows.tolist() == [*range(1, COUNT, 2), *range(COUNT + 1, 2 * COUNT, 2)]
    np.testing.assert_allclose(chance[:6], 0.75 / 6)
    np.testing.assert_allclose(chance[6:].sum(), 0.25)
    assert chance[7] == pytest.approx(chance[6] / 2)  # as far off as noise: half as often
    near, _ = chances(sources, balance=0.0, noise=0.0, max_yaw=40.0)
    assert np.abs(sources.pool.labels.yaw[near]).max() <= 40 and len(near) < len(rows)
    squares = sources.pool.squares(np.array([COUNT + 2, 2]))
    np.testing.assert_array_equal(squares[0], squares[1])


def test_schedules() -> None:
    cosine = TrainConfig(steps=100, warmup=10, learning_rate=1.0)
    assert cosine.learning_rate_at(0) == pytest.approx(0.1)
    assert cosine.learning_rate_at(50) == pytest.approx(0.5)
    trapezoid = dataclasses.replace(cosine, schedule="trapezoid", decay=0.4)
    assert trapezoid.learning_rate_at(59) == 1
    assert trapezoid.learning_rate_at(80) == pytest.approx(0.5)
    paper = TrainConfig.from_toml("paper")
    third = paper.steps // 3
    rates = [
        paper.learning_rate_at(k) for k in (0, third - 1, third + 1, 2 * third + 2, paper.steps - 1)
    ]
    np.testing.assert_allclose(rates, [1e-4, 1e-4, 1e-6, 1e-8, 1e-8])
    assert paper.steps * paper.batch == pytest.approx(80 * 120_464)


@pytest.mark.parametrize(
    "text",
    [
        "batch = 'many'",
        "colour = 3",
        "loss = 'best'",
        "batch = 0",
        "not toml at all",
        "ema = true",
        "milestones = [0.5, 0.2]",
        "profiled_share = 1.0",
    ],
)
def test_bad_configurations(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError):
        TrainConfig.from_toml(tmp_path / "config.toml")


def test_changes_go_over_the_file() -> None:
    changed = TrainConfig.from_toml("fast", ["steps = 7", "loss=ssim", "milestones = [0.1]"])
    assert (changed.steps, changed.loss, changed.milestones) == (7, "ssim", (0.1,))
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        TrainConfig.from_toml("fast", ["steps"])


def test_the_networks_shape_can_be_changed(data: Path, tmp_path: Path) -> None:
    lines = ["shape.input_size = 64", 'shape.activation = "relu"']
    config = dataclasses.replace(
        SMALL, shape=TrainConfig.from_toml("fast", lines).shape, start="fast"
    )
    task = task_of(config, data, tmp_path)
    assert task.network.config == NetworkConfig.fast().changed(
        {"input_size": 64, "activation": "relu"}
    )
    pixels, maps, _ = task.batch(0, slice(0, config.batch))
    assert pixels.shape[2:] == (64, 64)
    assert maps.shape[2:] == (32, 32)
    weights = train(config, data, tmp_path / "cache", tmp_path / "run")
    assert Checkpoint.load(weights).network.config == task.network.config
    with pytest.raises(ConfigError, match="unknown keys"):
        task_of(dataclasses.replace(config, shape={"colour": 1}), data, tmp_path)


@pytest.mark.parametrize("name", ["fast", "paper", "detector"])
def test_shipped_configurations(name: str) -> None:
    assert TrainConfig.from_toml(name).network == name


def test_augmentation_is_drawn_once_and_applied_purely() -> None:
    crops = torch.rand(16, 3, 64, 64) * 255
    draw = draw_photos(16, 64, torch.Generator().manual_seed(3))
    before = crops.clone()
    first, second = apply_photo_draw(crops, draw), apply_photo_draw(crops, draw)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(crops, before, rtol=0, atol=0)
    assert first.min() >= 0 and first.max() <= 255
    assert torch.isfinite(first).all()
    assert (first - crops).abs().mean() > 5
    again = draw_photos(16, 64, torch.Generator().manual_seed(3))
    torch.testing.assert_close(again.boxes, draw.boxes)


def test_harsh_changes_are_larger() -> None:
    crops = torch.full((64, 3, 64, 64), 120.0)
    crops[:, :, ::2] = 200
    changes = []
    for harsh in (0.0, 1.0):
        draw = draw_photos(64, 64, torch.Generator().manual_seed(5), harsh)
        assert (draw.jpeg[draw.jpeg > 0] >= (8 if harsh else 15)).all()
        assert draw.noise.max() > (15 if harsh else 10)
        assert draw.noise.max() <= (40 if harsh else 14)
        changes.append((apply_photo_draw(crops, draw) - crops).abs().mean())
    assert changes[1] > 1.1 * changes[0]


def test_no_photo_gets_black() -> None:
    """However dark: what is drawn leaves something to see."""
    crops = torch.full((512, 3, 8, 8), 60.0)
    crops[:, :, ::2] = 200
    draw = draw_photos(512, 8, torch.Generator().manual_seed(2), 1.0)
    none = torch.zeros(512)
    light = dataclasses.replace(
        draw, boxes=torch.zeros_like(draw.boxes), blur=none, coarse=none.bool(), jpeg=none
    )
    dark = draw.gain.mean(1) < 0.15
    assert dark.sum() > 10
    changed = apply_photo_draw(crops, light)
    assert changed[dark][:, :, ::2].mean((1, 2, 3)).min() > 5


def test_occluders_are_rectangles_and_ellipses() -> None:
    crops = torch.rand(4, 3, 64, 64) * 255
    draw = draw_photos(4, 64, torch.Generator().manual_seed(0), 1.0)
    box = torch.tensor([10.0, 16.0, 50.0, 36.0])
    boxes = torch.stack([box, torch.zeros(4)]).repeat(4, 1, 1)
    shape = torch.tensor([False, True, False, True])[:, None].repeat(1, 2)
    patch = torch.tensor([False, False, True, True])[:, None].repeat(1, 2)
    draw = dataclasses.replace(draw, boxes=boxes, round=shape, patch=patch)
    covered = (_occlude(crops, draw) != crops).any(1)
    assert covered[0].sum() == 40 * 20 and covered[0, 16:36, 10:50].all()
    assert covered[1].sum() == pytest.approx(math.pi * 20 * 10, rel=0.03)
    assert not covered[1, 16, 10] and covered[1, 26, 30]
    torch.testing.assert_close(covered[2:], covered[:2])
    assert (_occlude(crops, draw)[0, :, 20, 20] == draw.fill[0, 0]).all()


def test_a_photo_is_changed_alike_in_any_company() -> None:
    """So that several processes make of their parts what one makes of the whole."""
    crops = torch.rand(12, 3, 48, 48) * 255
    draw = draw_photos(12, 48, torch.Generator().manual_seed(1))
    whole = apply_photo_draw(crops, draw)
    part = apply_photo_draw(crops[5:9], rows_of(draw, slice(5, 9), torch.device("cpu")))
    torch.testing.assert_close(part, whole[5:9], rtol=0, atol=1e-3)


def test_jpeg_loss_resembles_jpegs() -> None:
    from facerecon.training.augment import _jpeg

    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (64, 64, 3), np.uint8), (0, 0), 2)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
    options = [cv2.IMWRITE_JPEG_QUALITY, 20, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    real = cv2.imdecode(cv2.imencode(".jpg", image[..., ::-1], options)[1], cv2.IMREAD_COLOR_RGB)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    ours = _jpeg(tensor, torch.tensor([20.0]))[0].permute(1, 2, 0).numpy()
    loss = np.abs(real.astype(float) - image).mean()
    assert np.abs(ours - real).mean() < 0.15 * loss


def test_crops_of_the_whole_square_are_the_square() -> None:
    square = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    theta = torch.eye(2, 3).expand(2, 2, 3)
    crops = cut_crops(square, theta, torch.tensor([False, True]), 32)
    expected = square.permute(0, 3, 1, 2).float()
    torch.testing.assert_close(crops[0], expected[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(crops[1], expected[1].flip(2), atol=1e-3, rtol=0)


def test_crop_draws_stay_in_their_ranges() -> None:
    draw = draw_crops(500, 60, 0.2, 0.07, torch.Generator().manual_seed(0))
    assert draw.turn.abs().max() <= 60 and draw.turn.abs().max() > 50
    assert draw.zoom.min() >= 1 / 1.2 and draw.zoom.max() <= 1.2
    assert draw.shift.abs().max() <= 0.07
    assert 0.3 < draw.mirror.float().mean() < 0.7


def test_the_real_labels(data_folder: Path) -> None:
    labels = read_labels(data_folder)
    assert len(labels) == 20_726
    _, photo = next(read_photos(data_folder, labels.path[:1]))
    assert photo.ndim == 3
