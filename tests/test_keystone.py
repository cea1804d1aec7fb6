"""Training and inference meet: what training calls the answer, inference reads back exactly.

An oracle network returns the training target; its answer goes through the inference path. Any
difference in axis, sign, origin, unit, crop or mirror between the two fails here.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from facerecon import Checkpoint, FaceNetwork, FaceReconstructor, NetworkConfig
from facerecon.decode import fit_pose
from facerecon.geometry import (
    FACE_TO_CAMERA,
    CropFrame,
    box_of_points,
    euler_from_matrix,
    matrix_from_euler,
)
from facerecon.training.datasets import FaceLabels, MorphableModel, PackedPhotos
from facerecon.training.datasets.pack import PACK_MARGIN, landmarks_in_photo
from facerecon.training.targets import CropDraw, TargetMaker
from facerecon.uv import UVCodec, UVLayout

MARGIN = 1.4
COUNT = 24


class Oracle(FaceNetwork):
    """Answers with one fixed position map."""

    answer: torch.Tensor

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.answer.expand(len(pixels), -1, -1, -1)


def made_up_faces(layout: UVLayout, seed: int) -> tuple[FaceLabels, MorphableModel]:
    rng = np.random.default_rng(seed)
    pushes = rng.normal(size=(4, 1, 3)) * 0.3 * layout.canonical[None, :, :] / 8
    model = MorphableModel(layout.canonical, pushes[:2].astype("f4"), pushes[2:].astype("f4"))
    turns = rng.uniform([-90, -40, -80], [90, 40, 80], (COUNT, 3))
    rotation = np.stack([matrix_from_euler(*t) @ FACE_TO_CAMERA for t in turns])
    labels = FaceLabels(
        path=np.array([f"made/{i}.jpg" for i in range(COUNT)]),
        source=np.array(["made"] * COUNT),
        split=np.array(["train"] * COUNT),
        good=np.ones(COUNT, bool),
        yaw=turns[:, 0].astype("f4"),
        rotation=rotation.astype("f4"),
        scale=rng.uniform(4, 30, COUNT).astype("f4"),
        translation=rng.uniform(100, 400, (COUNT, 3)).astype("f4"),
        identity=rng.normal(size=(COUNT, 2)).astype("f4"),
        expression=rng.uniform(0, 1, (COUNT, 2)).astype("f4"),
        hand_points=np.full((COUNT, 68, 2), np.nan, "f4"),
        hand_count=np.zeros(COUNT, np.int16),
        residual=np.full(COUNT, np.nan, "f4"),
    )
    return labels, model


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_training_asks_for_is_what_inference_returns(layout: UVLayout, mirrored: bool) -> None:
    config = NetworkConfig.fast()
    codec = UVCodec(layout, config.map_size)
    labels, model = made_up_faces(layout, seed=int(mirrored))
    points = landmarks_in_photo(labels, model, layout)
    boxes = np.stack([box_of_points(p) for p in points])
    frames = np.column_stack(
        [(boxes[:, :2] + boxes[:, 2:]) / 2, PACK_MARGIN * (boxes[:, 2:] - boxes[:, :2]).max(1)]
    )
    photos = PackedPhotos(np.zeros((COUNT, 8, 8, 3), np.uint8), frames, labels)
    targets = TargetMaker(photos, model, codec, MARGIN, torch.device("cpu"))
    draw = CropDraw.still(COUNT, torch.device("cpu"))
    if mirrored:
        draw = CropDraw(draw.turn, draw.zoom, draw.shift, ~draw.mirror)
    _, maps, landmarks = targets(torch.arange(COUNT), draw)

    width = 640
    photo = np.zeros((480, width, 3), np.uint8)
    for i in range(COUNT):
        # the codec is linear and its rows sum to 1, so it commutes with every pose: what must
        # come back is the posed image of the face that a map of this size can hold
        held = codec.decode(codec.encode(model.vertices(labels.identity[i], labels.expression[i])))
        expected = labels.scale[i] * held @ labels.rotation[i].T + labels.translation[i]
        expected[:, 2] += -points[i][:, 2].mean()  # z = 0 is the landmarks' mean depth
        truth = points[i]
        if mirrored:
            expected = layout.mirrored(expected) + [width - 1.0, 0.0, 0.0]
            truth = truth * [-1, 1, 1] + [width - 1.0, 0.0, 0.0]
        oracle = Oracle(config)
        oracle.answer = maps[i : i + 1]
        reconstructor = FaceReconstructor(Checkpoint(oracle, layout, MARGIN), refine=0, views=1)
        box = np.clip(box_of_points(truth), -1e4, 1e4)
        if box[2] < 0 or box[3] < 0 or box[0] > width - 1 or box[1] > 479:
            continue
        face = reconstructor.reconstruct(photo, box)

        assert np.abs(face.vertices - expected).max() < 0.05
        # the landmark targets lie where the layout has them on that surface, mirrored or not
        exact = model.vertices(labels.identity[i], labels.expression[i])
        exact = labels.scale[i] * exact @ labels.rotation[i].T + labels.translation[i]
        exact[:, 2] -= points[i][:, 2].mean()
        if mirrored:
            exact = layout.mirrored(exact) + [width - 1.0, 0.0, 0.0]
        asked = face.frame.to_image(landmarks[i].numpy())
        np.testing.assert_allclose(asked, layout.landmarks_of(exact), atol=0.05)
        # float32 labels are no rotation to a thousandth of a degree: take the nearest one
        rotation = Rotation.from_matrix(labels.rotation[i] @ FACE_TO_CAMERA).as_matrix()
        if mirrored:
            rotation = np.diag([-1.0, 1, 1]) @ rotation @ np.diag([-1.0, 1, 1])
        # a rigid copy of the canonical face must give its own pose, to a thousandth of a degree
        rigid = labels.scale[i] * layout.canonical @ (rotation @ FACE_TO_CAMERA).T + [300, 200, 0]
        oracle.answer = torch.from_numpy(
            codec.encode(face.frame.to_normalised(rigid)).transpose(2, 0, 1)[None].astype("f4")
        )
        again = FaceReconstructor(
            Checkpoint(oracle, layout, MARGIN), refine=0, views=1
        ).reconstruct(photo, box)
        np.testing.assert_allclose(again.vertices, codec.decode(codec.encode(rigid)), atol=0.02)
        found = fit_pose(rigid, layout)
        difference = Rotation.from_matrix(found.rotation.T @ rotation)
        assert np.degrees(difference.magnitude()) < 1e-3
        np.testing.assert_allclose(
            [found.yaw, found.pitch, found.roll], euler_from_matrix(rotation), atol=1e-3
        )


def test_crops_show_what_their_targets_say(layout: UVLayout) -> None:
    """A dot painted at a landmark of the photo is found at that landmark's target in the crop."""
    import cv2

    from facerecon.training.augment import cut_crops

    labels, model = made_up_faces(layout, seed=5)
    points = landmarks_in_photo(labels, model, layout)
    size = 256
    frames, squares = [], []
    for p in points:
        x0, y0, x1, y1 = box_of_points(p)
        side = PACK_MARGIN * max(x1 - x0, y1 - y0)
        frame = CropFrame((x0 + x1) / 2, (y0 + y1) / 2, side, size)
        frames.append([frame.centre_x, frame.centre_y, frame.side])
        at = (frame.to_normalised(p)[30, :2] + 0.5) * size - 0.5  # the nose tip, in the square
        square = np.zeros((size, size, 3), np.uint8)
        cv2.circle(square, np.rint(at * 16).astype(int).tolist(), 5 * 16, (255,) * 3, -1, 16, 4)
        squares.append(square)
    photos = PackedPhotos(np.stack(squares), np.array(frames), labels)
    targets = TargetMaker(photos, model, UVCodec(layout, 64), MARGIN, torch.device("cpu"))
    rng = np.random.default_rng(0)
    draw = CropDraw(
        turn=torch.from_numpy(rng.uniform(-60, 60, COUNT).astype("f4")),
        zoom=torch.from_numpy(rng.uniform(0.85, 1.2, COUNT).astype("f4")),
        shift=torch.from_numpy(rng.uniform(-0.07, 0.07, (COUNT, 2)).astype("f4")),
        mirror=torch.arange(COUNT) % 2 == 0,
    )
    theta, _, landmarks = targets(torch.arange(COUNT), draw)
    crops = cut_crops(torch.from_numpy(photos.pixels), theta, draw.mirror, 128).numpy()[:, 0]
    rows, columns = np.mgrid[:128, :128]
    for crop, target in zip(crops, landmarks.numpy(), strict=True):
        x, y = (crop * columns).sum() / crop.sum(), (crop * rows).sum() / crop.sum()
        assert np.hypot(*((target[30, :2] + 0.5) * 128 - 0.5 - [x, y])) < 0.3
