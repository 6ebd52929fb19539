"""Reading other people's checkpoints; every name here is imported when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atrous.weights.matching import LoadReport
    from atrous.weights.tensorflow import from_tensorflow
    from atrous.weights.torchvision import from_torchvision

__all__ = ["LoadReport", "from_tensorflow", "from_torchvision"]

_FILES = {"LoadReport": "matching", "from_tensorflow": "tensorflow", "from_torchvision": "torchvision"}


def __getattr__(name: str) -> object:
    """Import the file that holds a name when the name is first asked for."""
    from importlib import import_module

    if name in _FILES:
        return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the lazy names."""
    return sorted(__all__)
