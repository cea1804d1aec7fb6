"""From fitted faces to the position maps and landmarks that the network should answer.

Everything here is a batched torch operation; the algebra is that of ``CropFrame`` (crop-normalised
coordinates, z scaled alike) and ``UVCodec`` (the encode matrix applied to the model's directions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facerecon.errors import LayoutError
from facerecon.training.datasets import FaceLabels, MorphableModel, PackedPhotos, PhotoPool
from facerecon.uv import UVCodec

__all__ = ["CropDraw", "TargetMaker"]


@dataclass(frozen=True)
class CropDraw:
    """Crops of a batch, each relative to the tight box of its own turned landmarks.

    Attributes:
        turn: (n,) degrees by which the picture is turned clockwise.
        zoom: (n,) factor on the crop's side.
        shift: (n, 2) offset of the crop's centre, in sides.
        mirror: (n,) whether the crop is mirrored left to right.
    """

    turn: Tensor
    zoom: Tensor
    shift: Tensor
    mirror: Tensor

    @classmethod
    def still(cls, count: int, device: torch.device) -> CropDraw:
        """No augmentation: the crop that inference takes round the true box."""
        zero = torch.zeros(count, device=device)
        return cls(zero, zero + 1, torch.zeros(count, 2, device=device), zero.bool())


class TargetMaker:
    """Makes crops' affine maps and target position maps on a device.

    Attributes:
        weights: (size, size) loss weights.
        margin: Side of a crop as a multiple of the larger side of the landmarks' box.
    """

    def __init__(
        self,
        photos: PackedPhotos | PhotoPool,
        model: MorphableModel,
        codec: UVCodec,
        margin: float,
        device: torch.device,
    ) -> None:
        labels: FaceLabels = photos.labels
        basis, mean = model.basis, model.mean
        texels = np.flatnonzero(codec.mask.ravel())
        matrix = codec.encode_matrix[texels]
        flat = basis.transpose(1, 0, 2).reshape(len(mean), -1)

        def tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)

        count = len(basis)
        texel_basis = (matrix @ flat).reshape(len(texels), count, 3).transpose(1, 0, 2)
        self._texels = torch.from_numpy(texels).to(device)
        self._map_mean = tensor(matrix @ mean)
        self._map_basis = tensor(texel_basis.reshape(count, -1))
        self._point_mean = tensor(codec.layout.landmarks_of(mean))
        self._point_basis = tensor(codec.layout.landmarks_of(basis).reshape(count, -1))
        # a mirrored face's landmarks are where the layout has them on the mirrored surface, which
        # is not quite where the mirror shows the other side's
        self.mirrors = len(codec.layout.mirror) > 0
        if self.mirrors:
            other = codec.layout.mirror
            self._mirrored_mean = tensor(codec.layout.landmarks_of(mean[other]))
            mirrored = codec.layout.landmarks_of(basis[:, other])
            self._mirrored_basis = tensor(mirrored.reshape(count, -1))
        self._coefficients = tensor(np.concatenate([labels.identity, labels.expression], 1))
        side = photos.frames[:, 2]
        # photo pixels to coordinates normalised by the packed square
        self._rotation = tensor(labels.rotation * (labels.scale / side)[:, None, None])
        offset = (labels.translation[:, :2] - photos.frames[:, :2]) / side[:, None]
        self._offset = tensor(offset)
        self._size = codec.size
        self._sampler = tensor(codec.landmark_matrix.toarray())
        self.weights = tensor(codec.weights)
        self.margin = margin

    def sample_landmarks(self, maps: Tensor) -> Tensor:
        """Position maps (n, 3, s, s) to the 68 landmarks, (n, 68, 3)."""
        return (maps.flatten(2) @ self._sampler.T).transpose(1, 2)

    def __call__(self, rows: Tensor, draw: CropDraw) -> tuple[Tensor, Tensor, Tensor]:
        """Crops and targets of a batch.

        Args:
            rows: (n,) rows of the packed photos.
            draw: Their crops.

        Returns:
            ``theta`` (n, 2, 3), packed-square-normalised coordinates (in [-1/2, 1/2]) from
            crop-normalised ones, to sample the crop with; the target maps (n, 3, s, s), 0 off the
            chart; the target landmarks (n, 68, 3). A mirrored sample's targets are mirrored,
            its ``theta`` is not: mirror the crop after it was cut.
        """
        coefficients = self._coefficients[rows]
        model_points = self._point_mean + (coefficients @ self._point_basis).view(-1, 68, 3)
        rotation = self._rotation[rows]
        points = model_points @ rotation.transpose(1, 2)
        depth = points[:, :, 2].mean(1)
        xy = points[:, :, :2] + self._offset[rows, None]

        angle = torch.deg2rad(draw.turn)
        cos, sin = torch.cos(angle), torch.sin(angle)
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        turned = xy @ turn.transpose(1, 2)
        low, high = turned.amin(1), turned.amax(1)
        side = self.margin * (high - low).amax(1) * draw.zoom
        centre = (low + high) / 2 + draw.shift * side[:, None]
        # crop = (turn @ square - centre) / side
        back = turn.transpose(1, 2)
        theta = torch.cat([back * side[:, None, None], back @ centre[:, :, None]], 2)

        # one matrix takes model vertices to the crop: turn and scale after the face's rotation
        spin = F.pad(turn, (0, 1, 0, 1))
        spin[:, 2, 2] = 1
        linear = (spin @ rotation / side[:, None, None]).transpose(1, 2)
        moved = (self._offset[rows, None] @ turn.transpose(1, 2))[:, 0] - centre
        offset = (torch.cat([moved, -depth[:, None]], 1) / side[:, None])[:, None]

        texels = (coefficients @ self._map_basis).view(len(rows), -1, 3) + self._map_mean
        texels = torch.baddbmm(offset, texels, linear)
        maps = texels.new_zeros(len(rows), 3, self._size**2)
        maps[:, :, self._texels] = texels.transpose(1, 2)
        maps = maps.view(len(rows), 3, self._size, self._size)
        landmarks = torch.baddbmm(offset, model_points, linear)

        mirror = draw.mirror
        if not bool(mirror.any()):
            return theta, maps, landmarks
        if not self.mirrors:
            raise LayoutError("this face layout has no mirror map: set mirror = false")
        flip = maps.new_tensor([-1.0, 1.0, 1.0])
        other = self._mirrored_mean + (coefficients @ self._mirrored_basis).view(-1, 68, 3)
        other = torch.baddbmm(offset, other, linear) * flip
        maps = torch.where(
            mirror[:, None, None, None], maps.flip(3) * flip[None, :, None, None], maps
        )
        return theta, maps, torch.where(mirror[:, None, None], other, landmarks)
