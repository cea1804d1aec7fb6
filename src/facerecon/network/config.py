"""The shape of a face network, and the two that have names."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from facerecon.errors import ConfigError

__all__ = ["NetworkConfig"]


@dataclass(frozen=True)
class NetworkConfig:
    """A DenseNet encoder and a transposed-convolution decoder.

    Attributes:
        name: What the network is called.
        input_size: Side of the square RGB input, pixels.
        stem_channels: Channels of the first 3x3 convolution.
        stem_stride: Its stride, 1 or 2; at 4 there are two of stride 2.
        growth: For each dense block, the channels that each of its layers adds.
        bottleneck: Width of a layer's 1x1 convolution as a multiple of its growth.
        transitions: Channels after each transition; one fewer than there are blocks.
        decoder: Channels of each decoder stage; each stage doubles the side.
        decoder_convolutions: Transposed convolutions per stage: 3 as in the paper (3x3, 4x4 with
            stride 2, 3x3) or 2 (4x4 with stride 2, 3x3).
        last_kernel: Kernel of the convolution to x, y, z.
        activation: ``relu`` or ``silu``.
        pixel_mean: Mean of the input's pixels, 0 to 255, in R, G, B.
        pixel_scale: Divisor of the centred pixels.
    """

    name: str
    input_size: int
    stem_channels: int
    stem_stride: int
    growth: tuple[tuple[int, ...], ...]
    bottleneck: int
    transitions: tuple[int, ...]
    decoder: tuple[int, ...]
    decoder_convolutions: int = 2
    last_kernel: int = 3
    activation: str = "relu"
    pixel_mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    pixel_scale: float = 64.0

    def __post_init__(self) -> None:
        if len(self.transitions) != len(self.growth) - 1:
            raise ConfigError(
                f"{len(self.growth)} dense blocks need {len(self.growth) - 1} transitions, "
                f"{len(self.transitions)} were given"
            )
        numbers = [self.input_size, self.stem_channels, self.bottleneck, *self.transitions]
        numbers += [*self.decoder, *(g for block in self.growth for g in block)]
        if min(numbers) < 1 or not self.decoder or not all(self.growth):
            raise ConfigError("sizes and channels must be 1 or more, and no block may be empty")
        if self.stem_stride not in (1, 2, 4) or self.decoder_convolutions not in (2, 3):
            raise ConfigError("stem_stride is 1, 2 or 4 and decoder_convolutions 2 or 3")
        if self.last_kernel % 2 == 0 or self.pixel_scale <= 0 or len(self.pixel_mean) != 3:
            raise ConfigError("last_kernel must be odd, pixel_scale positive, pixel_mean three")
        if self.activation not in ("relu", "silu"):
            raise ConfigError(f"activation is {self.activation!r}; 'relu' or 'silu' is needed")
        if self.input_size % self.reduction:
            raise ConfigError(f"input_size must be a multiple of {self.reduction}")

    @property
    def reduction(self) -> int:
        """How many times smaller than the input the encoder's output is."""
        return int(self.stem_stride * 2 ** len(self.transitions))

    @property
    def map_size(self) -> int:
        """Side of the position map, texels."""
        return int(self.input_size // self.reduction * 2 ** len(self.decoder))

    @classmethod
    def paper(cls) -> NetworkConfig:
        """The paper's network (Computer Systems & Applications 30(7), 2021, Table 1).

        A block's growth is not a whole number of thirds there; it is shared as evenly as
        integers allow, the larger parts first. The bottleneck is DenseNet's 4 x growth, and the
        decoder halves its channels from stage to stage; the paper gives neither.
        """
        return cls(
            name="paper",
            input_size=256,
            stem_channels=16,
            stem_stride=1,
            growth=(
                (27, 27, 26),
                (51, 51, 50),
                (51, 51, 50),
                (56, 56, 56),
                (99, 99, 98),
                (59, 59, 58),
            ),
            bottleneck=4,
            transitions=(48, 104, 160, 232, 336),
            decoder=(256, 128, 64, 32, 16),
            decoder_convolutions=3,
            last_kernel=3,
        )

    @classmethod
    def fast(cls) -> NetworkConfig:
        """The default: 128 x 128 in, a 64 x 64 map out, about 3 M parameters."""
        return cls(
            name="fast",
            input_size=128,
            stem_channels=24,
            stem_stride=2,
            growth=((12,) * 3, (24,) * 3, (40,) * 4, (64,) * 4, (96,) * 3),
            bottleneck=2,
            transitions=(32, 48, 96, 160),
            decoder=(160, 96, 64, 32),
            activation="silu",
        )

    @classmethod
    def named(cls, name: str) -> NetworkConfig:
        """``paper`` or ``fast``.

        Raises:
            ConfigError: Another name.
        """
        known = {"paper": cls.paper, "fast": cls.fast}
        if name not in known:
            raise ConfigError(
                f"no network is called {name!r}; there are {', '.join(sorted(known))}"
            )
        return known[name]()

    def changed(self, changes: dict[str, Any]) -> NetworkConfig:
        """This configuration with some values replaced, as JSON or TOML has them.

        Raises:
            ConfigError: Unknown keys, or impossible values.
        """
        return self.from_dict({**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        """The inverse of :meth:`to_dict`.

        Raises:
            ConfigError: Unknown or missing keys, or impossible values.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}
        required = {name for name, f in fields.items() if f.default is dataclasses.MISSING}
        unknown, missing = set(values) - set(fields), required - set(values)
        if unknown or missing:
            raise ConfigError(
                f"network configuration: unknown keys {sorted(unknown)}, "
                f"missing {sorted(missing)}; known are {sorted(fields)}"
            )
        try:
            return cls(**{key: _frozen(value) for key, value in values.items()})
        except TypeError as error:
            raise ConfigError(f"network configuration: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
