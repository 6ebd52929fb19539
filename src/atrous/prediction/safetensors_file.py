"""Weights as .safetensors whose metadata says everything needed to use them; optional: the extra `export`."""

from __future__ import annotations

from pathlib import Path

from atrous.errors import CheckpointError
from atrous.files import write_bytes
from atrous.networks.segmenter import Segmenter
from atrous.prediction.description import Description
from atrous.weights import own
from atrous.weights.matching import load_by_name

_KEY = "atrous"


def write_safetensors(path: Path, network: Segmenter, description: Description) -> None:
    """Write a network's weights and its description, atomically.

    Raises:
        ConfigError: The package safetensors is missing.
    """
    tensors = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    content: bytes = own.safetensors_package().torch.save(
        tensors, metadata={_KEY: description.to_json(), "format": "pt"}
    )
    write_bytes(path, content)


def read_safetensors(path: Path) -> tuple[Segmenter, Description]:
    """Read a network that `write_safetensors` wrote.

    Raises:
        ConfigError: The package safetensors is missing.
        CheckpointError: Damaged, without our metadata, or weights that do not fit it.
    """
    tensors, metadata = own.read_safetensors(path)
    if _KEY not in metadata:
        raise CheckpointError(
            f"{path} holds weights but no description of their network; only files of atrous-export can be loaded"
        )
    description = Description.from_json(metadata[_KEY], source=str(path))
    network = description.build()
    load_by_name(network, targets=network.state_dict(keep_vars=True), values=tensors, source=str(path))
    return network, description
