from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import facerecon
from facerecon import Checkpoint, FaceReconstructor
from facerecon.errors import BoxError, ConfigError, ImageError, NoFaceFound
from facerecon.geometry import matrix_from_euler

BOX = (177.0, 87.0, 272.0, 174.5)
NOBODY = np.full((120, 160, 3), 90, np.uint8)


def spread(points: np.ndarray, others: np.ndarray) -> float:
    """Mean distance in percent of the example's box."""
    return float(100 * np.linalg.norm(points - others, axis=-1).mean() / 91)


def test_the_readmes_first_lines(
    reconstructor: FaceReconstructor, photo_path: Path, tmp_path: Path
) -> None:
    points = reconstructor.landmarks(photo_path)
    assert points.shape == (68, 3)
    # the astronaut looks almost straight into the camera and smiles
    eyes = points[36:42].mean(0), points[42:48].mean(0)
    assert 196 < eyes[0][0] < 213 and 236 < eyes[1][0] < 256
    assert abs(eyes[0][1] - eyes[1][1]) < 6
    assert 215 < points[30, 0] < 240 and 115 < points[30, 1] < 135
    assert points[30, 2] < points[0, 2]  # the nose is nearer than the ear
    pose = reconstructor.pose(photo_path)
    assert abs(pose.yaw) < 10 and abs(pose.roll) < 10 and abs(pose.pitch) < 25
    assert reconstructor.mesh(photo_path).export(tmp_path / "face.obj").exists()


def test_one_pass_serves_all_results(
    face: facerecon.Face, reconstructor: FaceReconstructor
) -> None:
    assert face.position_map.shape == (64, 64, 3)
    assert face.vertices.shape == (7168, 3)
    assert face.score == 1
    depth = face.depth_image()
    assert depth.shape == face.photo.shape[:2]
    x, y = np.rint(face.landmarks[30, :2]).astype(int)
    assert depth[y, x] == pytest.approx(face.landmarks[30, 2], abs=4)
    assert np.isnan(depth[0, 0])
    np.testing.assert_allclose(face.box[:2], face.landmarks[:, :2].min(0))


def test_input_kinds_agree(reconstructor: FaceReconstructor, photo: np.ndarray) -> None:
    expected = reconstructor.landmarks(photo, BOX)
    bgr = reconstructor.landmarks(photo[..., ::-1], BOX, bgr=True)
    tensor = reconstructor.landmarks(torch.from_numpy(photo).permute(2, 0, 1), BOX)
    np.testing.assert_array_equal(bgr, expected)
    np.testing.assert_array_equal(tensor, expected)


def test_answers_follow_the_picture(reconstructor: FaceReconstructor, photo: np.ndarray) -> None:
    expected = reconstructor.landmarks(photo, BOX)
    padded = np.pad(photo, ((30, 0), (50, 0), (0, 0)), mode="edge")
    moved = reconstructor.landmarks(padded, np.add(BOX, [50, 30, 50, 30]))
    np.testing.assert_allclose(moved, expected + [50, 30, 0], atol=1e-3)
    double = cv2.resize(photo, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    larger = reconstructor.landmarks(double, np.array(BOX) * 2 + 0.5)
    assert spread(larger, expected * 2 + [0.5, 0.5, 0]) < 2 * 1.0


def test_a_mirrored_photo_gives_the_mirrored_face(
    reconstructor: FaceReconstructor, photo: np.ndarray
) -> None:
    x0, y0, x1, y1 = BOX
    there = reconstructor.reconstruct(photo, BOX)
    back = reconstructor.reconstruct(photo[:, ::-1], (511 - x1, y0, 511 - x0, y1))
    expected = there.layout.mirrored(there.vertices) + [511.0, 0, 0]
    assert spread(back.vertices, expected) < 3
    assert back.pose.yaw == pytest.approx(-there.pose.yaw, abs=4)
    assert back.pose.roll == pytest.approx(-there.pose.roll, abs=3)


@pytest.mark.parametrize("angle", [-40, 40])
def test_a_turned_photo_turns_the_roll(
    reconstructor: FaceReconstructor, photo: np.ndarray, angle: float
) -> None:
    centre = (224.5, 130.0)
    matrix = cv2.getRotationMatrix2D(centre, -angle, 1)  # OpenCV's angle is counter-clockwise
    turned = cv2.warpAffine(photo, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    points = reconstructor.landmarks(photo, BOX)[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    box = (*points.min(0), *points.max(0))
    upright, leaning = reconstructor.pose(photo, BOX), reconstructor.pose(turned, box)
    expected = matrix_from_euler(0, 0, angle) @ upright.rotation
    difference = Rotation.from_matrix(expected.T @ leaning.rotation)
    assert np.degrees(difference.magnitude()) < 5


@pytest.mark.parametrize("angle", [-60, -35, 35, 60])
def test_a_leaning_head_is_cut_out_upright(
    reconstructor: FaceReconstructor, photo: np.ndarray, angle: float
) -> None:
    matrix = cv2.getRotationMatrix2D((224.5, 130.0), -angle, 1)
    turned = cv2.warpAffine(photo, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    upright = reconstructor.reconstruct(photo, BOX)
    expected = upright.landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    leaning = reconstructor.reconstruct(turned, (*expected.min(0), *expected.max(0)))
    assert upright.frame.angle == 0
    assert leaning.frame.angle - angle == pytest.approx(upright.pose.roll, abs=8)
    assert spread(leaning.landmarks[:, :2], expected) < 2.5


@pytest.mark.parametrize(
    "change", [(14, 0, 14, 0), (0, -14, 0, -14), (-14, -14, 14, 14), (10, 10, -10, -10)]
)
def test_a_box_that_is_off_hardly_matters(
    reconstructor: FaceReconstructor, photo: np.ndarray, change: tuple[float, ...]
) -> None:
    expected = reconstructor.landmarks(photo, BOX)
    assert spread(reconstructor.landmarks(photo, np.add(BOX, change)), expected) < 2.0


def test_a_good_box_takes_one_pass(
    reconstructor: FaceReconstructor, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    original = reconstructor._position_maps

    def counted(crops: list[np.ndarray]) -> np.ndarray:
        passes.append(len(crops))
        return original(crops)

    monkeypatch.setattr(reconstructor, "_position_maps", counted)
    box = reconstructor.reconstruct(photo, BOX).box
    passes.clear()
    reconstructor.reconstruct(photo, box)
    assert passes == [2]  # the crop and its mirror image
    passes.clear()
    reconstructor.reconstruct_batch([photo] * 2, [box, np.add(box, [20, 0, 20, 0])])
    assert passes == [4, 2]  # only the one that is off is run again
    passes.clear()
    reconstructor.reconstruct(photo)
    assert passes[-2:] == [1, 2]  # a detected face's first look is never the last: one view


@pytest.mark.parametrize("views", [2, 6])
def test_a_mirrored_photo_has_the_mirrored_answer(
    reconstructor: FaceReconstructor, photo: np.ndarray, views: int
) -> None:
    """With as many mirrored views as others, left and right are alike to the last bit."""

    def both(count: int) -> tuple[np.ndarray, np.ndarray]:
        looking = FaceReconstructor(reconstructor.checkpoint, refine=0, views=count)
        there = looking.reconstruct(photo, BOX).position_map
        width = photo.shape[1]
        box = (width - 1 - BOX[2], BOX[1], width - 1 - BOX[0], BOX[3])
        mirrored = looking.reconstruct(np.ascontiguousarray(photo[:, ::-1]), box).position_map
        return there, mirrored[:, ::-1] * [-1, 1, 1] + [width - 1, 0, 0]

    np.testing.assert_allclose(*both(views), atol=2e-2)
    assert np.abs(np.subtract(*both(1))).max() > 0.5  # the network alone is not symmetric


def test_more_views_are_a_little_different_and_need_a_symmetric_layout(
    reconstructor: FaceReconstructor, photo: np.ndarray
) -> None:
    checkpoint = reconstructor.checkpoint
    answers = [
        FaceReconstructor(checkpoint, views=count).landmarks(photo, BOX) for count in (1, 2, 6)
    ]
    assert 0.05 < spread(answers[0], answers[1]) < 2
    assert 0.05 < spread(answers[1], answers[2]) < 2
    lopsided = dataclasses.replace(checkpoint.layout, mirror=np.zeros(0, np.int32))
    plain = Checkpoint(checkpoint.network, lopsided, checkpoint.margin)
    three, six = (FaceReconstructor(plain, views=n).landmarks(photo, BOX) for n in (3, 6))
    np.testing.assert_array_equal(three, six)  # there are three that are not mirrored
    assert 0.05 < spread(answers[0], three) < 2
    for wrong in (0, 7):
        with pytest.raises(ConfigError, match=f"views is {wrong}"):
            FaceReconstructor.from_pretrained(views=wrong)


def test_batches_equal_single_runs(reconstructor: FaceReconstructor, photo: np.ndarray) -> None:
    boxes = [BOX, np.add(BOX, 3), np.add(BOX, [-4, -4, 4, 4])]
    batch = reconstructor.reconstruct_batch([photo] * 3, boxes)
    for face, box in zip(batch, boxes, strict=True):
        assert face is not None
        np.testing.assert_allclose(face.landmarks, reconstructor.landmarks(photo, box), atol=1e-2)
    assert reconstructor.reconstruct_batch([]) == []
    with pytest.raises(BoxError, match="2 boxes for 1"):
        reconstructor.reconstruct_batch([photo], [BOX, BOX])


def test_batch_with_detection_marks_the_empty_pictures(
    reconstructor: FaceReconstructor, photo: np.ndarray
) -> None:
    first, second = reconstructor.reconstruct_batch([NOBODY, photo])
    assert first is None
    assert second is not None
    assert spread(second.landmarks, reconstructor.landmarks(photo)) < 0.1


def test_nobody(reconstructor: FaceReconstructor) -> None:
    assert reconstructor.reconstruct_all(NOBODY) == []
    for method in (reconstructor.landmarks, reconstructor.mesh, reconstructor.pose):
        with pytest.raises(NoFaceFound, match="160 x 120"):
            method(NOBODY)


@pytest.mark.parametrize(
    ("box", "reason"),
    [((600, 600, 700, 700), "outside"), ((5, 5, 5, 5), "empty"), ((1, 2, 3), "four")],
)
def test_bad_boxes(
    reconstructor: FaceReconstructor, photo: np.ndarray, box: tuple[int, ...], reason: str
) -> None:
    with pytest.raises(BoxError, match=reason):
        reconstructor.reconstruct(photo, box)


def test_bad_pictures(reconstructor: FaceReconstructor, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"empty\.jpg"):
        reconstructor.landmarks(tmp_path / "empty.jpg")
    with pytest.raises(ImageError, match="NaN"):
        reconstructor.landmarks(np.full((50, 50, 3), np.nan), (0, 0, 20, 20))
    with pytest.raises(NoFaceFound):
        reconstructor.landmarks(np.zeros((1, 1, 3), np.uint8))


def test_a_huge_picture(reconstructor: FaceReconstructor, photo: np.ndarray) -> None:
    factor = 12_000 / 512
    huge = cv2.resize(photo[:256], (12_000, 6_000), interpolation=cv2.INTER_LINEAR)
    points = reconstructor.landmarks(huge, np.array(BOX) * factor)
    small = reconstructor.landmarks(photo, BOX)
    assert spread(points / factor, small) < 2.5


def test_grey_pictures_work(reconstructor: FaceReconstructor, photo: np.ndarray) -> None:
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    assert spread(reconstructor.landmarks(grey, BOX), reconstructor.landmarks(photo, BOX)) < 4


def test_bfloat16_stays_near(photo: np.ndarray) -> None:
    half = FaceReconstructor.from_pretrained(device="cpu", dtype=torch.bfloat16)
    full = FaceReconstructor.from_pretrained(device="cpu")
    assert spread(half.landmarks(photo, BOX), full.landmarks(photo, BOX)) < 2


def test_unusable_devices_and_types_are_refused() -> None:
    with pytest.raises(ConfigError, match="float64"):
        FaceReconstructor.from_pretrained(dtype=torch.float64)
    with pytest.raises(ConfigError, match="nonsense"):
        FaceReconstructor.from_pretrained(device="nonsense")


def test_threads_share_one_reconstructor(
    reconstructor: FaceReconstructor, photo: np.ndarray
) -> None:
    boxes = [np.add(BOX, shift) for shift in range(8)]
    alone = [reconstructor.landmarks(photo, box) for box in boxes]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda box: reconstructor.landmarks(photo, box), boxes))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_nothing_global_is_changed(photo: np.ndarray) -> None:
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    cv_threads = cv2.getNumThreads()
    before = photo.copy()
    FaceReconstructor.from_pretrained().landmarks(photo, BOX)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, grad)
    assert cv2.getNumThreads() == cv_threads
    np.testing.assert_array_equal(photo, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu(reconstructor: FaceReconstructor, photo: np.ndarray) -> None:
    cuda = FaceReconstructor.from_pretrained(device="cuda")
    assert spread(cuda.landmarks(photo, BOX), reconstructor.landmarks(photo, BOX)) < 0.1
