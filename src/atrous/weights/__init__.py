"""Reading other people's checkpoints; every name here is imported when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atrous.lazy import lazy_names

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

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "download": ("fetch",),
            "matching": ("LoadReport",),
            "own": ("from_atrous",),
            "released": ("load_preset", "load_pretrained"),
            "tensorflow": ("from_tensorflow",),
            "tf_checkpoint": ("open_checkpoint",),
            "torchvision": ("from_torchvision",),
            "zoo": ("preset", "presets"),
        },
    )
