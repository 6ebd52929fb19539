"""What an entry of results.json was scored on: the images, wherever they lie, and how they were padded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atrous.data.class_list import class_list_file
from atrous.errors import DataError
from atrous.files import at_home

if TYPE_CHECKING:
    from atrous.data.dataset import SegmentationDataset

Config = Mapping[str, Any]


def asked(config: Config) -> dict[str, Any]:
    """What a config asks to be scored, told without a look at the images.

    Args:
        config: its `data` counts: the constructor call `val`, its root absolute and its class list by the content, and
            `evaluation_size`.
    """
    node = {"root": None, **config["data"]["val"]}
    if node["root"] is None:
        del node["root"]
    else:
        node["root"] = str(at_home(str(node["root"])).absolute())
    if "classes" in node:
        node["classes"] = _class_list(node)
    found: dict[str, Any] = json.loads(json.dumps({"data": node, "padded_size": config["data"]["evaluation_size"]}))
    return found


def scored_on(config: Config, dataset: SegmentationDataset) -> dict[str, Any]:
    """What was scored, for an entry of results.json.

    Args:
        config: as for `asked`.
        dataset: that it describes.

    Returns:
        What `asked` says; `samples`, a digest of the images' names, their files' lengths and the classes, which is that
        of a copy elsewhere too; and `official_images`, how many the whole split has, or None.
    """
    if config["data"].get("cache") is not None:  # decoded pixels do not tell which files they are of
        from atrous.building import build

        dataset = build(config["data"]["val"], where="data.val")
    official = getattr(dataset, "official_count", None)
    return {**asked(config), "samples": _samples(config, dataset), "official_images": official}


def _samples(config: Config, dataset: SegmentationDataset) -> str:
    from atrous.data.dataset import PairList
    from atrous.data.decoded_manifest import names_and_lengths

    spec = asdict(dataset.spec)
    content: list[Any] = [[spec[key] for key in ("classes", "palette", "ignore_label")]]
    if not isinstance(dataset, PairList):  # its constructor call is all that there is
        content.append({key: value for key, value in config["data"]["val"].items() if key != "root"})
    content += names_and_lengths(dataset)
    return _digest(json.dumps(content, sort_keys=True).encode())


def _class_list(node: Mapping[str, Any]) -> str:
    classes = node["classes"]
    if not isinstance(classes, str):
        return _digest(json.dumps(classes, sort_keys=True).encode())
    with suppress(DataError, OSError):  # it is gone: who opens the images says so
        return _digest(class_list_file(classes, Path(str(node.get("root")))).read_bytes())
    return classes


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
