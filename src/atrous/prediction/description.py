"""All that must be known beside the weights to predict with them, as plain data that travels in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atrous.building import NETWORKS, build_network, check_targets
from atrous.data.preprocessing import Preprocessing
from atrous.data.spec import DatasetSpec
from atrous.errors import CheckpointError, ConfigError, DataError
from atrous.networks.segmenter import Segmenter

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Description:
    """A network's constructor calls, its label space and its preprocessing.

    Attributes:
        model: constructor call of the network: `_target_` and arguments.
        backbone: constructor call of its backbone.
        output_stride: at which the weights were trained.
        spec: class names and palette.
        preprocessing: name, as `Preprocessing.named` takes it.
        padded_size: (height, width) that images up to this size are padded to, as in the evaluation of the training;
            None for the next k * output_stride + 1.
    """

    model: Mapping[str, Any]
    backbone: Mapping[str, Any]
    output_stride: int
    spec: DatasetSpec
    preprocessing: str
    padded_size: tuple[int, int] | None = None

    def build(self) -> Segmenter:
        """Build the network, with fresh weights that are to be filled; nothing is fetched for it.

        Raises:
            ConfigError: A constructor call that is no network of atrous, or does not fit.
        """
        config = {"model": self.model, "backbone": self.backbone, "output_stride": self.output_stride}
        check_targets(config, allowed=NETWORKS)  # it may come from anywhere
        network = build_network(config, num_classes=self.spec.num_classes, pretrained=False)
        if not isinstance(network, Segmenter):
            raise ConfigError(f"model._target_={self.model['_target_']!r} is a part of a network, not a whole one")
        return network

    def to_json(self) -> str:
        """Return everything as one JSON object."""
        values = {
            "format": FORMAT,
            "model": self.model,
            "backbone": self.backbone,
            "output_stride": self.output_stride,
            "name": self.spec.name,
            "classes": self.spec.classes,
            "palette": self.spec.palette,
            "ignore_label": self.spec.ignore_label,
            "preprocessing": self.preprocessing,
            "padded_size": self.padded_size,
        }
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Description:
        """Read what `to_json` wrote; nothing in it is run.

        Args:
            text: the JSON.
            source: where it is from, for messages.

        Raises:
            CheckpointError: Not such an object, or written by a newer version.
        """
        try:
            values = json.loads(text)
            if values["format"] > FORMAT:
                raise CheckpointError(f"{source}: format {values['format']} is newer than this atrous reads ({FORMAT})")
            size = values["padded_size"]
            described = cls(
                model=values["model"],
                backbone=values["backbone"],
                output_stride=int(values["output_stride"]),
                spec=DatasetSpec(
                    name=values["name"],
                    classes=tuple(values["classes"]),
                    palette=tuple((int(r), int(g), int(b)) for r, g, b in values["palette"]),
                    ignore_label=int(values["ignore_label"]),
                ),
                preprocessing=values["preprocessing"],
                padded_size=None if size is None else (int(size[0]), int(size[1])),
            )
            Preprocessing.named(described.preprocessing)
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError) as error:
            if isinstance(error, CheckpointError):
                raise
            reason = str(error) if isinstance(error, ConfigError | DataError) else repr(error)
            raise CheckpointError(f"{source}: its description cannot be used ({reason}); export it again") from None
        return described
