"""An evaluation protocol as a value: any protocol runs on any checkpoint, without training anew."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from atrous.errors import ConfigError
from atrous.resources import conf_folder


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a network is evaluated (DeepLabv3, Table 4; DeepLabv3+, Table 3).

    Attributes:
        output_stride: of the network while it is evaluated; None for that of its training.
        scales: factors by which the image is resized; probabilities are averaged over them.
        flip: whether the mirror image is averaged in at every scale.

    Raises:
        ConfigError: no scale, or a scale that is not positive.
    """

    output_stride: int | None = None
    scales: Sequence[float] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(f"protocol.scales={list(self.scales)}: at least one scale, all above 0")

    @property
    def is_single(self) -> bool:
        """Whether one pass over the image as it is will do."""
        return tuple(self.scales) == (1.0,) and not self.flip

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for results.json."""
        return asdict(self)


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
