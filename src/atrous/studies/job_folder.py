"""A run's folder before its process starts: what was damaged makes room, and what the run is is written down."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from atrous.building import build
from atrous.errors import StoreError

if TYPE_CHECKING:
    from atrous.studies.jobs import Job

_OWN_IMAGES = "atrous.data.Folder"


def set_damaged_aside(job: Job) -> bool:
    """Make room for what has to be made anew, and say so."""
    moved = job.folder.set_damaged_aside()
    for path in moved:
        print(f"{path.parent / path.stem} was damaged: kept as {path.name}, and made anew", file=sys.stderr)  # noqa: T201
    return bool(moved)


def write_folder(job: Job) -> None:
    """Write config.yaml and run.json, and the state where the run is not done."""
    steps = job.config["recipe"]["max_steps"]
    facts = {
        "name": job.identity.name,
        "key": job.identity.key,
        "family": job.identity.family,
        "seed": job.identity.seed,
        "max_steps": steps,
        "command": job.command,
        "table": job.config["table"],
        "row": job.config["row"],
        "parent": None if job.parent is None else str(job.parent.folder.path),
        "images": _images_of(job.config["data"]),
    }
    job.folder.create(config_yaml=yaml.safe_dump(job.config, sort_keys=False), facts=facts)
    if not job.folder.is_done:
        job.folder.set_status("queued", host=socket.gethostname(), max_steps=steps, restarts=0)


def with_class_list(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config that holds the class list of one's own images, and not its path: a run tells its classes itself.

    Raises:
        DataError: the file of the list is gone, or cannot be read.
    """
    data = dict(config["data"])
    for split in ("train", "val"):
        node = data.get(split, {})
        if node.get("_target_") == _OWN_IMAGES and "classes" in node:
            from atrous.data.class_list import class_list_content

            content = class_list_content(node["classes"], Path(str(node.get("root"))))
            data |= {split: {**node, "classes": content}, "classes": deepcopy(content)}  # or YAML would refer to it
    return {**config, "data": data}


def check_images(job: Job) -> None:
    """Refuse to take a run for one of other images: a folder of one's own is told by what lies in it, not by its place.

    Raises:
        StoreError: the run was begun with images of other names or lengths.
    """
    before = job.folder.facts().get("images")
    if before is not None and before != _images_of(job.config["data"]):
        raise StoreError(
            f"{job.folder.path} was trained on other images and masks than data.root={job.config['data']['root']!r} "
            "holds now: give another store=FOLDER for these, or move that folder away to train it anew"
        )


def _images_of(data: Mapping[str, Any]) -> str | None:
    """A digest of the names and lengths of a folder's files, wherever it lies; None for published data sets."""
    if data.get("train", {}).get("_target_") != _OWN_IMAGES:
        return None
    from atrous.data.decoded_manifest import names_and_lengths

    content = {split: names_and_lengths(build(data[split], where=f"data.{split}")) for split in ("train", "val")}
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
