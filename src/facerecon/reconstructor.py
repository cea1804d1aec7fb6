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
from facerecon.detection import Cascade, Detection, Detector, FixedPoint
from facerecon.errors import BoxError, ConfigError, DetectorUnavailable, NoFaceFound
from facerecon.geometry import CropFrame, box_of_points, checked_box
from facerecon.image import ImageInput, read_image
from facerecon.uv import UVLayout, codec_for

__all__ = ["Face", "FaceReconstructor"]

_BATCH = 32


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
        detector: Finds faces; by default the network itself does (:class:`FixedPoint`), helped by
            OpenCV's cascade where the installed OpenCV carries one.
        device: Where the network runs.
        dtype: float32, bfloat16 or float16.
        refine: How often a face found by the detector is cut out again by its own landmarks.

    Raises:
        ConfigError: The device or the type cannot be used here.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        detector: Detector | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        refine: int = 1,
    ) -> None:
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
        self._refine = refine
        self._codec = codec_for(checkpoint.layout, checkpoint.network.config.map_size)
        self.detector = detector if detector is not None else self._own_detector()

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
        return cls(Checkpoint.load(folder), detector=detector, device=device, dtype=dtype)

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
        """Upload the weights to a Hub repository, made when missing.

        Returns:
            The address of the commit.

        Raises:
            HubUnreachable: The Hub did not answer, or refused.
        """
        return push(
            self.checkpoint,
            repo_id,
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

    def reconstruct(
        self, image: ImageInput, box: ArrayLike | None = None, *, bgr: bool = False
    ) -> Face:
        """Reconstruct one face.

        Args:
            image: Anything that :func:`facerecon.read_image` reads.
            box: x0, y0, x1, y1 of the tight box round the face's 68 landmarks; skips detection
                and runs the network once. The largest detected face without it.
            bgr: Whether an array or tensor has OpenCV's channel order.

        Raises:
            ImageError: The picture cannot be read.
            BoxError: The box is malformed or outside the picture.
            NoFaceFound: Nobody was found.
        """
        photo = read_image(image, bgr=bgr)
        if box is not None:
            given = Detection(checked_box(box, photo.shape), 1.0)
            return self._faces([photo], [given], refine=0)[0]
        found = self.detector.detect(photo)
        if not found:
            raise NoFaceFound(
                f"no face was found in the {photo.shape[1]} x {photo.shape[0]} picture; where you "
                "know its place, pass box=(x0, y0, x1, y1)"
            )
        return self._faces([photo], found[:1], self._refine)[0]

    def reconstruct_all(self, image: ImageInput, *, bgr: bool = False) -> list[Face]:
        """Every face of a picture, largest first; [] when nobody is there.

        Raises:
            ImageError: The picture cannot be read.
        """
        photo = read_image(image, bgr=bgr)
        found = self.detector.detect(photo)
        return self._faces([photo] * len(found), found, self._refine)

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
            given = [
                Detection(checked_box(box, photo.shape), 1.0)
                for box, photo in zip(boxes, photos, strict=True)
            ]
            return list(self._faces(photos, given, refine=0))
        found = [self.detector.detect(photo)[:1] for photo in photos]
        taken = [i for i, detections in enumerate(found) if detections]
        faces = self._faces([photos[i] for i in taken], [found[i][0] for i in taken], self._refine)
        result: list[Face | None] = [None] * len(photos)
        for i, face in zip(taken, faces, strict=True):
            result[i] = face
        return result

    def _faces(
        self, photos: Sequence[NDArray[np.uint8]], found: Sequence[Detection], refine: int
    ) -> list[Face]:
        """Crop, run and decode; with ``refine``, again round the landmarks that came out."""
        boxes: list[NDArray[np.float64]] = [detection.box for detection in found]
        for last in [False] * refine + [True]:
            frames = [self._frame(box) for box in boxes]
            crops = [frame.warp(photo) for frame, photo in zip(frames, photos, strict=True)]
            maps = self._position_maps(crops)
            if not last:
                points = [self._codec.decode_landmarks(m) for m in maps]
                boxes = [box_of_points(f.to_image(p)) for f, p in zip(frames, points, strict=True)]
        return [
            Face(frame.to_image(m), frame, detection.score, self.checkpoint.layout, photo)
            for m, frame, detection, photo in zip(maps, frames, found, photos, strict=True)
        ]

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

    def _own_detector(self) -> Detector:
        config = self.checkpoint.network.config
        seeds: Detector | None
        try:
            seeds = Cascade()
        except DetectorUnavailable:
            seeds = None

        def landmarks(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
            return np.stack([self._codec.decode_landmarks(m) for m in self._position_maps(crops)])

        return FixedPoint(landmarks, config.input_size, self.checkpoint.margin, seeds=seeds)
