"""atrous-export: a network for other programs, checked against PyTorch before its file appears."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from atrous.commands.app import run_app
from atrous.commands.memory import memory_watched
from atrous.commands.words import as_list, with_path_quoted
from atrous.errors import ConfigError
from atrous.processes import Interrupts

if TYPE_CHECKING:
    from torch import Tensor

    from atrous.networks.segmenter import Segmenter
    from atrous.prediction.description import Description

FORMATS = ("pt2", "onnx", "safetensors")
_INTERRUPTED = "formats that are finished stay; name the others as format=[...] to go on"


@dataclass
class ExportConfig:
    """Which network becomes which files."""

    run: str = MISSING
    output: str = MISSING
    format: list[str] = field(default_factory=list)
    name: str = "network"
    output_stride: int | None = None
    image: str | None = None
    side: int = 257
    checkpoint: str = "last"
    preset: str | None = None
    overwrite: bool = False


def task(config: DictConfig) -> None:
    """Write every format that is asked for, each after its check."""
    from atrous.files import at_home, check_writable
    from atrous.studies.configuration import resolve

    settings = {**resolve(config), "output": config.output}
    paths = _paths(settings)
    check_writable(at_home(settings["output"]))
    side = settings["side"]
    with Interrupts(), memory_watched(lambda: f"check with smaller images: side={side // 2} (now {side})"):
        _export(settings, paths)


def _export(settings: dict[str, Any], paths: dict[str, Path]) -> None:
    from rich.console import Console

    from atrous.progress import doing

    with doing("reading the network", Console(stderr=True)) as tell:
        network, description, samples = _network(settings)
        from atrous.prediction.exporting import export_network

        for kind, path in paths.items():
            tell(f"writing {path.name} and checking it")
            difference = export_network(network, description, path, kind=kind, samples=samples)
            size = path.stat().st_size / 2**20
            print(f"{path}: {size:.1f} MiB, logits within {difference:.1e} of the network's largest")  # noqa: T201


def _paths(settings: dict[str, Any]) -> dict[str, Path]:
    from atrous.files import at_home

    unknown = [kind for kind in settings["format"] if kind not in FORMATS]
    if unknown or not settings["format"]:
        given = f"format={unknown[0]!r} is unknown" if unknown else "format=[] writes nothing"
        raise ConfigError(f"{given}; choose of {', '.join(FORMATS)}")
    if settings["name"] in ("", "..") or Path(settings["name"]).name != settings["name"]:
        raise ConfigError(
            f"name={settings['name']!r} is no file's name; files are output/name.format, e.g. name=network"
        )
    paths = {kind: at_home(settings["output"]) / f"{settings['name']}.{kind}" for kind in settings["format"]}
    there = [path for path in paths.values() if path.exists()]
    if there and not settings["overwrite"]:
        raise ConfigError(f"{there[0]} is there already; add overwrite=true to replace it, or give another name=")
    return paths


def _network(settings: dict[str, Any]) -> tuple[Segmenter, Description, list[Tensor]]:
    from atrous.data.files import read_image
    from atrous.data.preprocessing import Preprocessing
    from atrous.data.shapes import Shapes
    from atrous.prediction.exporting import smallest_side
    from atrous.prediction.loading import load_network
    from atrous.prediction.parity import samples_of

    image = read_image(settings["image"]) if settings["image"] else Shapes(split="val", length=1, size=257).read(0)[0]
    network, description = load_network(settings["run"], checkpoint=settings["checkpoint"], preset=settings["preset"])
    if settings["output_stride"] is not None:
        network.set_output_stride(settings["output_stride"])
        description = replace(description, output_stride=settings["output_stride"])
    smallest = smallest_side(network)
    if settings["side"] < smallest:
        raise ConfigError(f"side={settings['side']}: at least {smallest} at output_stride={network.output_stride}")
    preprocessing = Preprocessing.named(description.preprocessing)
    return network, description, samples_of(image, preprocessing, side=settings["side"], smallest=smallest)


def main() -> None:
    """Entry point; `format=onnx` is short for the list `format=[onnx]`."""
    ConfigStore.instance().store(name="export_schema", node=ExportConfig)
    sys.argv[1:] = [
        with_path_quoted(as_list(text, "format", "format"), ("run", "output", "image", "name")) for text in sys.argv[1:]
    ]
    run_app(task, config_name="export", interrupted=_INTERRUPTED)


if __name__ == "__main__":
    main()
