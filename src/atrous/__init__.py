"""Atrous: the laboratory for DeepLabv3 and DeepLabv3+.

The networks of both papers can be had from here, in plain PyTorch: `atrous.DeepLabV3Plus(backbone="resnet50")`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atrous.networks.deeplab import DeepLabV3, DeepLabV3Cascade, DeepLabV3Plus

__version__ = "0.1.0"
__all__ = ["DeepLabV3", "DeepLabV3Cascade", "DeepLabV3Plus", "__version__"]


def __getattr__(name: str) -> object:
    """Import a network when it is first asked for, so that `import atrous` stays light."""
    if name in ("DeepLabV3", "DeepLabV3Cascade", "DeepLabV3Plus"):
        from atrous.networks import deeplab

        return getattr(deeplab, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the lazy names too."""
    return sorted(__all__)
