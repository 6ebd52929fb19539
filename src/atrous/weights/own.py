"""Weights of atrous itself: checkpoints of atrous-train and files of atrous-export, to start a training from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from atrous.errors import CheckpointError, ConfigError
from atrous.networks.segmenter import Segmenter
from atrous.weights.matching import LoadReport, load_by_name

OWN_FILES = (".ckpt", ".safetensors")
_MODEL = "model."  # of the names in a checkpoint of atrous-train


def from_atrous(model: Segmenter, source: str | Path, *, any_classes: bool = False) -> LoadReport:
    """Load the weights of a network that atrous trained or exported into one of the same architecture.

    Args:
        model: The network.
        source: A checkpoint of atrous-train (`checkpoints/last.ckpt` of a run), or a .safetensors file of
            atrous-export. Nothing is unpickled beyond tensors and plain values.
        any_classes: Whether the classifier keeps its values where the file's is for another number of classes.

    Returns:
        What was loaded, and which parameters were left as they were.

    Raises:
        ConfigError: The package safetensors is missing.
        CheckpointError: The file cannot be read, or names or shapes do not fit.
    """
    path = Path(source)
    values = _of_safetensors(path) if path.suffix == ".safetensors" else _of_checkpoint(path)
    targets = model.state_dict(keep_vars=True)
    classifier = [name for name in targets if name.startswith("classifier.")]
    return load_by_name(
        model, targets=targets, values=values, source=str(path), resizable=classifier if any_classes else ()
    )


def _of_checkpoint(path: Path) -> Mapping[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read as a checkpoint (is it whole?): {reason}") from None
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(str(name).startswith(_MODEL) for name in state):
        raise CheckpointError(f"{path} holds no network; expected a checkpoint of atrous-train, such as last.ckpt")
    named = {str(name): value for name, value in state.items()}
    return {name[len(_MODEL) :]: value for name, value in named.items() if name.startswith(_MODEL)}


def _of_safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        import safetensors
        from safetensors.torch import load_file
    except ImportError:
        raise ConfigError(
            f"recipe.pretrained={str(path)!r} needs the package safetensors: pip install 'atrous[export]'"
        ) from None
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors (is it whole?): {error}") from None
