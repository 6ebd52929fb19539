"""The identity of a training: one hash over all that can change its weights or its score.

Paths, devices, workers, loggers and the table that asked for it are left out, so that two tables that need the same
training share one folder.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.errors import ConfigError
from atrous.run_store import RunFolder

_NOT_IDENTITY = {"root"}
_OF_LOADING = ("root", "cache", "allow_shared_samples", "num_workers", "val_batch_size")


@dataclass(frozen=True)
class Identity:
    """What a training is.

    Attributes:
        name: readable and unique apart from the seed, `[a-z0-9._-]`.
        key: hash of everything, the seed included; the W&B run id.
        family: hash without the budget (`recipe.max_steps`), its own and those of the trainings before it, and the
            seed: cut runs of a row are found by it.
        seed: the seed.
        former_family: the family as runs of before noted it, with the budgets of the trainings before it.
    """

    name: str
    key: str
    family: str
    seed: int
    former_family: str

    def folder(self, store: str | Path) -> RunFolder:
        """Where the training lives in a run store."""
        return RunFolder(Path(store) / "runs" / self.name / f"seed{self.seed}")


def identify(config: Mapping[str, Any], *, parent: Identity | None = None) -> Identity:
    """The identity of a resolved config (a plain mapping).

    Args:
        config: the config.
        parent: the identity of the training whose weights it starts from.
    """
    data = {split: _split(config["data"][split]) for split in ("train", "val")}
    data["evaluation_size"] = config["data"]["evaluation_size"]
    if config["data"]["bootstrap"]["classes"]:
        data["bootstrap"] = config["data"]["bootstrap"]
    content = {
        "model": config["model"],
        "backbone": config["backbone"],
        "output_stride": config["output_stride"],
        "data": data,
        "recipe": {**config["recipe"], "pretrained": _content_of(config["recipe"]["pretrained"])},
        "accumulate": config["trainer"]["accumulate"],  # it divides batch norm's batch, which devices do not
    }
    if parent is not None:
        content["parent"] = parent.name
    recipe = {key: value for key, value in content["recipe"].items() if key != "max_steps"}
    former = {**content, "recipe": recipe}
    seed = int(config["seed"])
    return Identity(
        name=f"{_slug(config)}-{_hash(content)}",
        key=_hash({**content, "seed": seed, **({"parent": parent.key} if parent is not None else {})}),
        family=_hash({**former, **({"parent": parent.family} if parent is not None else {})}),
        seed=seed,
        former_family=_hash(former),
    )


def tells_apart(key: str) -> bool:
    """Whether another value of a key, or of a group, can make another training: the seed does not, nor do places."""
    section, _, rest = key.lstrip("~").partition(".")
    if section == "trainer":
        return rest in ("", "accumulate")
    if section == "data":
        return rest not in _OF_LOADING and rest.rsplit(".", 1)[-1] not in _NOT_IDENTITY
    return section in ("model", "backbone", "output_stride", "recipe", "parent")


def _split(node: Mapping[str, Any]) -> dict[str, Any]:
    """A data set without its place; a class list counts by what is in its file, also where that lies in the root."""
    content = {key: value for key, value in node.items() if key not in _NOT_IDENTITY}
    classes = content.get("classes")
    if isinstance(classes, str):
        from atrous.data.class_list import class_list_file

        content["classes"] = _digest(class_list_file(classes, Path(str(node.get("root")))), key="data.classes")
    return content


def _slug(config: Mapping[str, Any]) -> str:
    model, data = (str(node["_target_"]).rsplit(".", 1)[-1] for node in (config["model"], config["data"]["train"]))
    return re.sub(r"[^a-z0-9._-]+", "-", f"{model}-os{config['output_stride']}-{data}".lower())[:60]


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _content_of(path: str | None) -> str | None:
    """Initial weights count by what is in the file, not by where it is; published ones by their name."""
    if path is None:
        return None
    path = f"{path}.index" if Path(f"{path}.index").is_file() else path
    if not Path(path).is_file() and "/" not in path and "." not in path:
        return path
    return _digest(Path(path), key="recipe.pretrained")


def _digest(path: Path, *, key: str) -> str:
    from atrous.weights.download import sha256_of

    try:
        return sha256_of(path)
    except OSError as error:
        raise ConfigError(f"{key}={str(path)!r} cannot be read: {error.strerror}") from None
