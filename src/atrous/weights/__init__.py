"""Reading other people's checkpoints; every name here is imported when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atrous.weights.download import fetch
    from atrous.weights.matching import LoadReport
    from atrous.weights.own import from_atrous
    from atrous.weights.released import load_preset, load_pretrained
    from atrous.weights.tensorflow import from_tensorflow
    from atrous.weights.tf_checkpoint import open_checkpoint
    from atrous.weights.torchvision import from_torchvision
    from atrous.weights.zoo import preset, presets

__all__ = [
    "LoadReport",
    "fetch",
    "from_atrous",
    "from_tensorflow",
    "from_torchvision",
    "load_preset",
    "load_pretrained",
    "open_checkpoint",
    "preset",
    "presets",
]

_FILES = {
    "LoadReport": "matching",
    "fetch": "download",
    "from_atrous": "own",
    "from_tensorflow": "tensorflow",
    "from_torchvision": "torchvision",
    "load_preset": "released",
    "load_pretrained": "released",
    "open_checkpoint": "tf_checkpoint",
    "preset": "zoo",
    "presets": "zoo",
}


def __getattr__(name: str) -> object:
    """Import the file that holds a name when the name is first asked for."""
    from importlib import import_module

    if name in _FILES:
        return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the lazy names."""
    return sorted(__all__)
