"""An evaluation protocol as a value: any protocol runs on any checkpoint, without training anew."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from atrous.errors import ConfigError
from atrous.resources import conf_folder

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a network is evaluated (DeepLabv3, Table 4; DeepLabv3+, Table 3).

    Attributes:
        output_stride: of the network while it is evaluated; None for that of its training.
        scales: factors by which the image is resized; probabilities are averaged over them.
        flip: whether the mirror image is averaged in at every scale.
        padded_size: (height, width) that images are padded to; None for the data set's own `evaluation_size`.
        tile: (height, width) of overlapping tiles, for images larger than memory; None for whole images, which is what
            the papers score.
        overlap: pixels that neighbouring tiles share; without effect where `tile` is None.

    Raises:
        ConfigError: no scale, one that is not positive, a size that is no pair of sides, or a tile no
            larger than the overlap.
    """

    output_stride: int | None = None
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    padded_size: Sequence[int] | None = None
    tile: Sequence[int] | None = None
    overlap: int = 128

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(f"protocol.scales={list(self.scales)}: at least one scale, all above 0")
        for key, size in (("padded_size", self.padded_size), ("tile", self.tile)):
            if size is not None and (len(size) != 2 or min(size) < 1):
                raise ConfigError(f"protocol.{key}={list(size)}: height and width, both at least 1, or null")
        if self.tile is not None and not 0 <= self.overlap < min(self.tile):
            raise ConfigError(
                f"protocol.overlap={self.overlap} must be at least 0 and below both sides of tile={list(self.tile)}"
            )

    @property
    def is_whole_image(self) -> bool:
        """Whether images are scored in one piece, as every number of the papers is."""
        return self.tile is None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for results.json; what does not apply is left out."""
        values = asdict(self)
        if self.padded_size is None:
            del values["padded_size"]
        if self.tile is None:
            del values["tile"], values["overlap"]
        return values

    def check_sizes(self, output_stride: int, *, name: str) -> None:
        """Refuse sizes that aligned corners do not allow at an output stride.

        Args:
            output_stride: of the network under this protocol.
            name: of the protocol, for the message.

        Raises:
            ConfigError: a size is not k * output_stride + 1; says which ones are close.
        """
        for key, size in (("padded_size", self.padded_size), ("tile", self.tile)):
            for side in size or ():
                below = (side - 1) // output_stride * output_stride + 1
                if side != below or side <= output_stride:
                    raise ConfigError(
                        f"protocol {name}: {key}={list(size or ())} does not fit output_stride={output_stride}; sides "
                        f"are k * {output_stride} + 1: {max(below, output_stride + 1)} or {below + output_stride}"
                    )


def protocol_names() -> list[str]:
    """The protocols in conf/protocol."""
    return sorted(path.stem for path in (conf_folder() / "protocol").glob("*.yaml"))


def load_protocol(name: str) -> Protocol:
    """A protocol by the name of its file in conf/protocol.

    Raises:
        ConfigError: lists the protocols that exist.
    """
    if name not in protocol_names():
        raise ConfigError(f"protocol {name!r} is unknown; there are {', '.join(protocol_names())}")
    return Protocol(**yaml.safe_load((conf_folder() / "protocol" / f"{name}.yaml").read_text()))
