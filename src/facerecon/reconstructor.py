"""The order of the hops: picture, faces, crops, network, position maps, results."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from facerecon.checkpoint import Checkpoint, push, resolve
from facerecon.decode import FaceMesh, HeadPose, depth_image, fit_pose, smooth_surface
from facerecon.decode.views import MOST_VIEWS, mean_answer, views_round
from facerecon.detection import Detection, Detector, SingleShot, five_points, suppress
from facerecon.detection.agreement import VIEWS, spread, views_of
from facerecon.errors import BoxError, ConfigError, NoFaceFound
from facerecon.geometry import CropFrame, box_of_points, checked_box, umeyama
from facerecon.image import ImageInput, read_image
from facerecon.model_card import model_card
from facerecon.uv import UVLayout, codec_for

__all__ = ["Face", "FaceReconstructor"]

_BATCH = 32
_CANDIDATE = 0.3
"""Lowest score of the default detector's boxes, those below ``_SURE`` to be confirmed."""
_SURE = 0.8
"""Score from which on a detection is taken as it is."""
_SPREAD = 0.065
"""Largest spread of a face's landmarks between two views, over the detection's score; where it is
larger, but below ``_HOPELESS``, two views round the upright answer get a second chance. On 600
composed validation scenes 274 of 421 doubtful faces and 2 of 220 false alarms stay; a score of 0.6
alone would keep 270 and 19. It goes with the face network: tools/calibrate_confirmation.py."""
_HOPELESS = 0.2
_UPRIGHT = 20.0
"""Degrees that a head may lean in its crop; one that leans more is cut out again, upright."""
_CENTRED = 0.05
"""How far a face may lie from its crop's middle, in sides, and be larger or smaller than the crop
is meant for; one that is farther off is cut out again. docs/weights.md shows what it changes."""


@dataclass(frozen=True, eq=False)
class Face:
    """One reconstructed face. All coordinates are photo pixels: x right, y down, z into the scene.

    z is relative: 0 is the mean depth of the 68 landmarks, up to the network's error.

    Attributes:
        position_map: (s, s, 3) surface points in UV order; meaningful on the chart and its ring.
        frame: The crop the network saw.
        score: The detector's confidence; 1 where the box was given.
        layout: The face layout of the position map.
        photo: (h, w, 3) RGB photo.
    """

    position_map: NDArray[np.float64] = field(repr=False)
    frame: CropFrame
    score: float
    layout: UVLayout = field(repr=False)
    photo: NDArray[np.uint8] = field(repr=False)

    @cached_property
    def landmarks(self) -> NDArray[np.float64]:
        """(68, 3) landmarks of the 300-W convention, hidden ones where they are in 3D."""
        return codec_for(self.layout, len(self.position_map)).decode_landmarks(self.position_map)

    @cached_property
    def vertices(self) -> NDArray[np.float64]:
        """(v, 3) the layout's own vertices."""
        return codec_for(self.layout, len(self.position_map)).decode(self.position_map)

    @cached_property
    def pose(self) -> HeadPose:
        """The head pose."""
        return fit_pose(self.vertices, self.layout)

    @property
    def box(self) -> NDArray[np.float64]:
        """(4,) x0, y0, x1, y1, the tight box round the landmarks."""
        return box_of_points(self.landmarks)

    def mesh(
        self,
        topology: Literal["model", "grid"] = "model",
        *,
        grid_size: int = 256,
        texture_size: int = 512,
        smoothing: float = 1.5,
    ) -> FaceMesh:
        """The dense mesh.

        Args:
            topology: ``model`` has the face model's own vertices (7168 for the ICT layout, always
                in the same order); ``grid`` has one vertex per chart texel.
            grid_size: Side of the grid's map, texels.
            texture_size: Side of the texture image, texels.
            smoothing: How far the network's texel noise is smoothed, see
                :func:`facerecon.decode.smooth_surface`; landmarks and pose are never smoothed.

        Raises:
            ConfigError: Another topology, a size below 16, or negative smoothing.
        """
        if min(grid_size, texture_size) < 16 or smoothing < 0:
            raise ConfigError("grid_size and texture_size must be 16 or more, smoothing 0 or more")
        surface = smooth_surface(self.position_map, self.layout, self.pose, smoothing)
        if topology == "model":
            triangles = self.layout.triangles
            vertices, uv = surface, self.layout.uv.astype(np.float64)
        elif topology == "grid":
            codec = codec_for(self.layout, grid_size)
            triangles, uv = codec.grid_triangles, codec.grid_uv
            vertices = codec.encode(surface)[codec.chart]
        else:
            raise ConfigError(f"topology is {topology!r}; 'model' or 'grid' is needed")
        return FaceMesh(vertices, triangles, uv, self.photo, self.layout, surface, texture_size)

    def depth_image(self) -> NDArray[np.float32]:
        """(h, w) z of the face at each photo pixel, NaN where there is none."""
        height, width = self.photo.shape[:2]
        return depth_image(self.vertices, self.layout.triangles, height, width)


class FaceReconstructor:
    """Turns photos into 3D faces.

    It holds no state that a call changes, so threads may share one.

    Args:
        checkpoint: A finished network with its layout and crop.
        detector: Finds faces; the packaged :class:`SingleShot` by default.
        device: Where the network runs.
        dtype: float32, bfloat16 or float16.
        confirm: Whether faces that the detector is unsure of (score below 0.8) are looked at twice
            by the face network, which drops those on which it does not agree with itself; see
            :mod:`facerecon.detection.agreement`.
        refine: How often a face may be cut out again, round its own landmarks and upright. The
            first time this is always done for detected faces; else only where the crop turned
            out to be off: 5 % of its side from the middle, 10 % too large or small, or leaning by
            more than 20 degrees. 0 leaves it at the first crop.
        views: How many views of a face the answer is the mean of, 1 to 6: the crop, its mirror
            image, then crops turned by 10 degrees and scaled by 5 %, mirrored or not. Each costs
            one run of the network; docs/weights.md shows what it gains. A layout without a
            mirror map, such as PRNet's, has 3 at most, none of them mirrored.

    Raises:
        ConfigError: The device or the type cannot be used here, or ``views`` is out of range.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        detector: Detector | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        confirm: bool = True,
        refine: int = 1,
        views: int = 2,
    ) -> None:
        if not 1 <= views <= MOST_VIEWS:
            raise ConfigError(f"views is {views}; 1 to {MOST_VIEWS} is needed")
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise ConfigError(f"dtype is {dtype}; float32, bfloat16 or float16 is needed")
        try:
            # a copy: the checkpoint stays as it was, to be saved in full precision
            self._network = copy.deepcopy(checkpoint.network).to(device=device, dtype=dtype).eval()
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"the device {device!r} cannot be used: {error}") from error
        self._network.requires_grad_(False)
        self.checkpoint = checkpoint
        self.device, self.dtype = torch.device(device), dtype
        self._confirm, self._refine, self._views = confirm, refine, views
        self._codec = codec_for(checkpoint.layout, checkpoint.network.config.map_size)
        if detector is None:
            threshold = _CANDIDATE if confirm else 0.5
            detector = SingleShot(device=device, threshold=threshold)
        self.detector = detector

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        detector: Detector | None = None,
        confirm: bool = True,
        refine: int = 1,
        views: int = 2,
    ) -> FaceReconstructor:
        """Load weights.

        Args:
            name_or_path: None for the weights in the package, which need no network access; a
                folder with ``config.json`` and ``model.safetensors``; or a Hub repository
                ``owner/name``.
            revision: Branch, tag or commit on the Hub.
            cache_dir: The Hub's cache; its usual place by default.
            token: Hub access token.
            local_files_only: Use only what is in the Hub's cache.
            device: Where to run; by default ``cuda`` where torch has it, else ``cpu``.
            dtype: float32, bfloat16 or float16.
            detector: Finds faces; the default is described at the class.
            confirm: See the class.
            refine: See the class.
            views: See the class; 1 is the fastest, 6 the most accurate.

        Raises:
            CheckpointNotFound: There is no such folder, repository, revision or file.
            HubUnreachable: The Hub did not answer and nothing is cached.
            CheckpointInvalid: The files are corrupted, foreign, or do not belong together.
        """
        folder = resolve(
            name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(
            Checkpoint.load(folder),
            detector=detector,
            device=device,
            dtype=dtype,
            confirm=confirm,
            refine=refine,
            views=views,
        )

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder."""
        self.checkpoint.save(Path(folder))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        token: str | bool | None = None,
        private: bool = False,
        revision: str | None = None,
        commit_message: str = "Upload facerecon weights",
    ) -> str:
        """Upload the weights and their model card to a Hub repository, made when missing.

        Returns:
            The address of the commit.

        Raises:
            HubUnreachable: The Hub did not answer, or refused.
        """
        return push(
            self.checkpoint,
            repo_id,
            model_card(self.checkpoint, repo_id),
            token=token,
            private=private,
            revision=revision,
            commit_message=commit_message,
        )

    def landmarks(
        self, image: ImageInput, box: ArrayLike | None = None, *, bgr: bool = False
    ) -> NDArray[np.float64]:
        """The 68 landmarks of the largest face, (68, 3); see :meth:`reconstruct`."""
        return self.reconstruct(image, box, bgr=bgr).landmarks

    def mesh(
        self,
        image: ImageInput,
        box: ArrayLike | None = None,
        *,
        bgr: bool = False,
        topology: Literal["model", "grid"] = "model",
    ) -> FaceMesh:
        """The mesh of the largest face; see :meth:`reconstruct` and :meth:`Face.mesh`."""
        return self.reconstruct(image, box, bgr=bgr).mesh(topology)

    def pose(
        self, image: ImageInput, box: ArrayLike | None = None, *, bgr: bool = False
    ) -> HeadPose:
        """The head pose of the largest face; see :meth:`reconstruct`."""
        return self.reconstruct(image, box, bgr=bgr).pose

    def detect(self, image: ImageInput, *, bgr: bool = False) -> list[Detection]:
        """The faces of a picture, largest first: what the detector found, confirmed.

        Raises:
            ImageError: The picture cannot be read.
        """
        return self._found(read_image(image, bgr=bgr))

    def reconstruct(
        self, image: ImageInput, box: ArrayLike | None = None, *, bgr: bool = False
    ) -> Face:
        """Reconstruct one face.

        Args:
            image: Anything that :func:`facerecon.read_image` reads.
            box: x0, y0, x1, y1 of the tight box round the face's 68 landmarks; skips detection
                and cuts the face out once, and again where it turns out to lie off the
                crop's middle, to be of another size, or to lean (see ``refine``). The
                largest detected face without it.
            bgr: Whether an array or tensor has OpenCV's channel order.

        Raises:
            ImageError: The picture cannot be read.
            BoxError: The box is malformed or outside the picture.
            NoFaceFound: Nobody was found.
        """
        photo = read_image(image, bgr=bgr)
        if box is not None:
            place = Detection(checked_box(box, photo.shape), 1.0)
            return self._faces([photo], [place], given=True)[0]
        found = self._found(photo, largest=True)
        if not found:
            raise NoFaceFound(
                f"no face was found in the {photo.shape[1]} x {photo.shape[0]} picture; where you "
                "know its place, pass box=(x0, y0, x1, y1)"
            )
        return self._faces([photo], found[:1], given=False)[0]

    def reconstruct_all(self, image: ImageInput, *, bgr: bool = False) -> list[Face]:
        """Every face of a picture, largest first; [] when nobody is there.

        Raises:
            ImageError: The picture cannot be read.
        """
        photo = read_image(image, bgr=bgr)
        found = self._found(photo)
        return self._faces([photo] * len(found), found, given=False)

    def reconstruct_batch(
        self,
        images: Sequence[ImageInput],
        boxes: Sequence[ArrayLike] | None = None,
        *,
        bgr: bool = False,
    ) -> list[Face | None]:
        """The largest face of each picture, or None, the network run on all at once.

        Args:
            images: Pictures.
            boxes: One box per picture, which skips detection.
            bgr: Whether arrays and tensors have OpenCV's channel order.

        Raises:
            ImageError: A picture cannot be read.
            BoxError: A box is malformed or outside its picture, or there are too many or too few.
        """
        photos = [read_image(image, bgr=bgr) for image in images]
        if boxes is not None:
            if len(boxes) != len(photos):
                raise BoxError(f"{len(boxes)} boxes for {len(photos)} pictures: give one for each")
            places = [
                Detection(checked_box(box, photo.shape), 1.0)
                for box, photo in zip(boxes, photos, strict=True)
            ]
            return list(self._faces(photos, places, given=True))
        found = [self._found(photo, largest=True)[:1] for photo in photos]
        taken = [i for i, detections in enumerate(found) if detections]
        faces = self._faces([photos[i] for i in taken], [found[i][0] for i in taken], given=False)
        result: list[Face | None] = [None] * len(photos)
        for i, face in zip(taken, faces, strict=True):
            result[i] = face
        return result

    def _found(self, photo: NDArray[np.uint8], largest: bool = False) -> list[Detection]:
        """What the detector finds in a photo, less what the network does not take for a face.

        Args:
            photo: RGB.
            largest: Only the first one matters: doubtful ones smaller than a sure one are left out
                without a look at them.
        """
        found = list(self.detector.detect(photo))
        doubtful = [k for k, d in enumerate(found) if d.score < _SURE] if self._confirm else []
        kept = {k: detection for k, detection in enumerate(found) if k not in doubtful}
        if largest:
            least = max((d.area for d in kept.values()), default=0.0)
            doubtful = [k for k in doubtful if found[k].area > least]
        if not doubtful:
            return list(kept.values())
        frames = [self._frame(found[k].box) for k in doubtful]
        for _ in range(2):
            again = []
            for k, views in zip(doubtful, self._seen_twice(photo, frames), strict=True):
                away, points = spread(views), views.mean(0)
                if away < _SPREAD * found[k].score:
                    # of the face itself, where a part of it was taken for it
                    kept[k] = Detection(box_of_points(points), found[k].score, five_points(points))
                elif away < _HOPELESS:
                    again.append((k, self._upright_frame(points)))
            doubtful, frames = [k for k, _ in again], [frame for _, frame in again]
            if not again:
                break
        return suppress(list(kept.values()))

    def _seen_twice(self, photo: NDArray[np.uint8], frames: list[CropFrame]) -> NDArray[np.float64]:
        """Landmarks (n, 2, 68, 3) in photo pixels of n crops' views for confirmation."""
        views = [view for frame in frames for view in views_of(frame)]
        maps = self._position_maps([view.warp(photo) for view in views])
        points = [
            v.to_image(self._codec.decode_landmarks(m)) for v, m in zip(views, maps, strict=True)
        ]
        return np.stack(points).reshape(len(frames), len(VIEWS), 68, 3)

    def _faces(
        self, photos: Sequence[NDArray[np.uint8]], found: Sequence[Detection], given: bool
    ) -> list[Face]:
        """Crop, run and decode, and again round the answer where that is better."""
        answers: dict[int, NDArray[np.float64]] = {}
        frames = {i: self._frame(detection.box) for i, detection in enumerate(found)}
        again = list(frames)
        for turn in range(self._refine + 1):
            last = turn == self._refine
            sure = given or turn > 0
            # a first look that is never the last needs no second view
            views = self._views if sure or last else 1
            looked = self._answers([(photos[i], frames[i]) for i in again], views)
            answers |= zip(again, looked, strict=True)
            if last:
                break
            better = {i: self._frame_round_answer(answers[i]) for i in again}
            again = [i for i in again if not sure or _differ(frames[i], better[i])]
            if not again:
                break
            frames |= {i: better[i] for i in again}
        return [
            Face(answers[i], frames[i], detection.score, self.checkpoint.layout, photos[i])
            for i, detection in enumerate(found)
        ]

    def _answers(
        self, crops: Sequence[tuple[NDArray[np.uint8], CropFrame]], count: int
    ) -> list[NDArray[np.float64]]:
        """Position maps (s, s, 3) in photo pixels of crops of photos, each seen ``count`` times."""
        symmetric = len(self.checkpoint.layout.mirror) > 0
        views = [views_round(frame, count, symmetric) for _, frame in crops]
        maps = self._position_maps(
            [v.cut(photo) for (photo, _), seen in zip(crops, views, strict=True) for v in seen]
        )
        each = len(maps) // max(len(crops), 1)
        return [mean_answer(seen, maps[k * each : (k + 1) * each]) for k, seen in enumerate(views)]

    def _frame_round_answer(self, answer: NDArray[np.float64]) -> CropFrame:
        """The crop that an answer asks for: round its landmarks, upright if it leans."""
        points = self._codec.decode_landmarks(answer)
        lean = self._leaning(points)
        return self._frame_round(points, lean if abs(lean) > _UPRIGHT else 0.0)

    def _upright_frame(self, landmarks: NDArray[np.float64]) -> CropFrame:
        """The crop round landmarks in which they do not lean."""
        return self._frame_round(landmarks, self._leaning(landmarks))

    def _leaning(self, landmarks: NDArray[np.float64]) -> float:
        """Degrees, clockwise, by which the top of the head leans in the picture."""
        layout = self.checkpoint.layout
        up = umeyama(layout.landmarks_of(layout.canonical), landmarks).rotation[:, 1]
        return float(np.degrees(np.arctan2(up[0], -up[1])))

    def _frame_round(self, landmarks: NDArray[np.float64], angle: float) -> CropFrame:
        size = self.checkpoint.network.config.input_size
        return CropFrame.from_points(landmarks, self.checkpoint.margin, size, angle)

    def _frame(self, box: NDArray[np.float64]) -> CropFrame:
        config = self.checkpoint.network.config
        return CropFrame.from_box(box, self.checkpoint.margin, config.input_size)

    @torch.inference_mode()
    def _position_maps(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """RGB crops to crop-normalised position maps (n, s, s, 3)."""
        size = self._codec.size
        maps = np.empty((len(crops), size, size, 3))
        for start in range(0, len(crops), _BATCH):
            part = torch.from_numpy(np.stack(crops[start : start + _BATCH]))
            pixels = part.to(self.device).permute(0, 3, 1, 2)  # channels last in memory
            predicted = self._network(pixels).permute(0, 2, 3, 1).float()
            maps[start : start + _BATCH] = predicted.cpu().numpy()
        return maps


def _differ(frame: CropFrame, better: CropFrame) -> bool:
    """Whether a crop is so far from a better one that its answer suffers."""
    away = np.hypot(frame.centre_x - better.centre_x, frame.centre_y - better.centre_y)
    zoom = abs(np.log(frame.side / better.side))
    turned = abs(frame.angle - better.angle) > _UPRIGHT / 2
    return bool(turned or away > _CENTRED * better.side or zoom > 2 * _CENTRED)
