"""The whole of training, on a small data folder in the real formats that the test writes."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from facerecon import FaceReconstructor
from facerecon.errors import ConfigError, DataError
from facerecon.geometry import FACE_TO_CAMERA, matrix_from_euler
from facerecon.training import TrainConfig, train
from facerecon.training.augment import apply_photo_draw, cut_crops, draw_crops, draw_photos
from facerecon.training.datasets import pack, read_labels, read_photos
from facerecon.training.engine import balanced
from facerecon.uv import UVLayout

COUNT = 12
SMALL = TrainConfig(
    steps=4, batch=4, validate_every=2, checkpoint_every=2, pack_size=96, warmup=1, bfloat16=False
)


@pytest.fixture
def data(tmp_path: Path, layout: UVLayout) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    names = np.array([f"made/{i:02}.jpg" for i in range(COUNT)])
    with tarfile.open(folder / "photos_made.tar", "w") as tar:
        for name in names:
            pixels = cv2.resize(rng.integers(0, 256, (12, 10, 3), np.uint8), (100, 120))
            content = cv2.imencode(".jpg", pixels)[1].tobytes()
            member = tarfile.TarInfo(str(name))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    yaw = np.linspace(-80, 80, COUNT).astype("f4")
    np.savez(
        folder / "labels.npz",
        path=names,
        source=np.array(["made"] * COUNT),
        split=np.array(["val", "train"] * (COUNT // 2)),
        good=np.ones(COUNT, bool),
        yaw=yaw,
        rotation=np.stack([matrix_from_euler(y, 0, 0) @ FACE_TO_CAMERA for y in yaw]).astype("f4"),
        scale=np.full(COUNT, 4.0, "f4"),
        translation=np.tile(np.array([50, 60, 0], "f4"), (COUNT, 1)),
        identity=np.zeros((COUNT, 80), "f2"),
        expression=np.zeros((COUNT, 53), "f2"),
        hand_points=np.full((COUNT, 68, 2), np.nan, "f4"),
        hand_count=np.zeros(COUNT, np.int16),
    )
    vertices = np.zeros((11248, 3), "f4")
    vertices[layout.source_index] = layout.canonical
    np.savez(
        folder / "ict_face.npz",
        vertices=vertices,
        identity=rng.normal(size=(80, 11248, 3)).astype("f2"),
        expression=rng.normal(size=(53, 11248, 3)).astype("f2"),
    )
    return folder


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
    from facerecon.training.engine import Trainer

    original = Trainer._train_step

    def interrupting(self: Trainer, step: int, forward) -> float:
        if step == 2 and not resumed:
            raise KeyboardInterrupt
        return original(self, step, forward)

    resumed: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_step", interrupting)
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


@pytest.mark.parametrize("loss", ["weighted_l1", "weighted_l2", "ssim"])
def test_every_loss_overfits_one_batch(
    data: Path, tmp_path: Path, layout: UVLayout, loss: str
) -> None:
    from facerecon.training.datasets import MorphableModel
    from facerecon.training.engine import Trainer

    config = dataclasses.replace(SMALL, loss=loss, steps=40, schedule="cosine")
    photos = pack(data, tmp_path / "cache", layout, config.pack_size)
    model = MorphableModel.load(data / "ict_face.npz", layout, 80)
    trainer = Trainer(config, photos, model, layout, tmp_path, torch.device("cpu"))
    fixed = trainer.batch(0)
    trainer.batch = lambda _step: fixed  # type: ignore[method-assign]
    losses = [trainer._train_step(step, trainer.network) for step in range(40)]
    assert min(losses[-5:]) < losses[0] / 5


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
        ("yaw", np.zeros(3, "f4"), "rows"),
    ],
)
def test_bad_labels_are_named(data: Path, field: str, value: np.ndarray, reason: str) -> None:
    with np.load(data / "labels.npz") as archive:
        arrays = dict(archive)
    np.savez(data / "labels.npz", **{**arrays, field: value})
    with pytest.raises(DataError, match=reason):
        read_labels(data)


def test_missing_photos_are_named(data: Path) -> None:
    with pytest.raises(DataError, match=r"made/99\.jpg"):
        list(read_photos(data, ["made/99.jpg"]))
    with pytest.raises(DataError, match=r"photos_other\.tar"):
        list(read_photos(data, ["other/1.jpg"]))


def test_balance() -> None:
    yaw = np.array([0, 1, 2, -3, 80], np.float32)
    np.testing.assert_allclose(balanced(yaw, 0), 1)
    even = balanced(yaw, 1)
    assert even[:4].sum() == pytest.approx(even[4])


def test_schedules() -> None:
    cosine = TrainConfig(steps=100, warmup=10, learning_rate=1.0)
    assert cosine.learning_rate_at(0) == pytest.approx(0.1)
    assert cosine.learning_rate_at(50) == pytest.approx(0.5)
    trapezoid = dataclasses.replace(cosine, schedule="trapezoid", decay=0.4)
    assert trapezoid.learning_rate_at(59) == 1
    assert trapezoid.learning_rate_at(80) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "text",
    ["batch = 'many'", "colour = 3", "loss = 'best'", "batch = 0", "not toml at all", "ema = true"],
)
def test_bad_configurations(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError):
        TrainConfig.from_toml(tmp_path / "config.toml")


@pytest.mark.parametrize("name", ["fast", "paper"])
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
