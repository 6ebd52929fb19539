"""Weights of atrous itself: checkpoints of atrous-train and files of atrous-export, to start a training from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from atrous.errors import CheckpointError, ConfigError
from atrous.networks.segmenter import Segmenter
from atrous.weights.matching import LoadReport, dense_tensors, load_by_name
from atrous.weights.torch_files import read_torch

OWN_FILES = (".ckpt", ".safetensors")
_MODEL = "model."  # of the names in a checkpoint of atrous-train


def from_atrous(model: Segmenter, source: str | Path, *, any_classes: bool = False) -> LoadReport:
    """Load the weights of a network that atrous trained or exported into one of the same architecture.

    A network of other multi-grid or ASPP rates takes them too: give it those that it was trained with. `atrous.load`
    builds the network as the run's config says.

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
    values = read_safetensors(path)[0] if path.suffix == ".safetensors" else tensors_of_checkpoint(path)
    targets = model.state_dict(keep_vars=True)
    return load_by_name(
        model, targets=targets, values=values, source=str(path), resizable=_classifier(targets) if any_classes else ()
    )


def check_same_network(model: Segmenter, other: Segmenter, *, source: str) -> None:
    """Refuse two networks of which one cannot take over the other's weights, whatever classes they have.

    Args:
        model: A network without weights (`atrous.networks.dry_run.without_weights`), which would take them over.
        other: The network that has them, without weights as well.
        source: What to call the other in errors.

    Raises:
        MisfitError: Names what is missing, surplus or of another shape.
    """
    targets = model.state_dict(keep_vars=True)
    load_by_name(
        model, targets=targets, values=other.state_dict(keep_vars=True), source=source, resizable=_classifier(targets)
    )


def _classifier(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith("classifier.")]


def tensors_of_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the weights of the network in a checkpoint of atrous-train, by the network's names.

    Raises:
        CheckpointError: The file cannot be read, holds no network, or what it holds of it are no tensors.
    """
    state = read_torch(path).get("state_dict")
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds no state_dict; expected a checkpoint of atrous-train, such as last.ckpt")
    named = {str(name): value for name, value in state.items()}
    ours = {name[len(_MODEL) :]: value for name, value in named.items() if name.startswith(_MODEL)}
    return dense_tensors(ours, source=str(path))


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a .safetensors file.

    Raises:
        ConfigError: The package safetensors is missing.
        CheckpointError: The file cannot be read.
    """
    package = safetensors_package()
    try:
        with package.safe_open(path, framework="pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}, stream.metadata() or {}  # noqa: SIM118
    except (OSError, package.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors (is it whole?): {error}") from None


def safetensors_package() -> Any:
    """Return the package, with its part for PyTorch.

    Raises:
        ConfigError: It is missing.
    """
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        raise ConfigError(".safetensors needs the package safetensors: pip install 'atrous[export]'") from None
    return safetensors
