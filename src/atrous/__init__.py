"""Atrous: the laboratory for DeepLabv3 and DeepLabv3+.

The networks of both papers can be had from here, in plain PyTorch: `atrous.DeepLabV3Plus(backbone="resnet50")`; and any
checkpoint as a predictor: `atrous.load(path).predict("image.jpg").overlay()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atrous.networks.deeplab import DeepLabV3, DeepLabV3Cascade, DeepLabV3Plus
    from atrous.prediction.loading import load

__version__ = "0.1.0"
_ROOMS = ("networks", "weights")
__all__ = ["DeepLabV3", "DeepLabV3Cascade", "DeepLabV3Plus", "__version__", "load"]


def __getattr__(name: str) -> object:
    """Import a name when it is first asked for, so that `import atrous` stays light."""
    if name in ("DeepLabV3", "DeepLabV3Cascade", "DeepLabV3Plus"):
        from atrous.networks import deeplab

        return getattr(deeplab, name)
    if name == "load":
        from atrous.prediction.loading import load

        return load
    if name in _ROOMS:
        from importlib import import_module

        return import_module(f"atrous.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the lazy names too."""
    return sorted([*__all__, *_ROOMS])
