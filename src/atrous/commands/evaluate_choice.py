"""Whom atrous-evaluate is asked to evaluate: a finished run, or released weights, with the data of the command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from atrous.commands.evaluate_subject import RELEASED, Subject
from atrous.errors import ConfigError, StoreError
from atrous.hardware import device_type, resolve_precision
from atrous.run_store import RunFolder
from atrous.studies.configuration import written

_OF_WEIGHTS = "32-true"  # the precision in which released weights are scored


def subject_of_run(path: str, config: DictConfig, *, key: str = "run") -> Subject:
    """A finished run; nothing heavy is imported.

    Args:
        path: its folder.
        config: of the command.
        key: what has the path, for errors.

    Raises:
        StoreError: no run, not finished (says how far it got), without the checkpoint or with a damaged config.
        ConfigError: an unknown kind of checkpoint.
    """
    folder = RunFolder(Path(path))
    if not folder.config_file.is_file():
        raise StoreError(f"{key}={path!r} is not the folder of a run: it has no config.yaml")
    if config.checkpoint not in ("last", "best"):
        raise ConfigError(f"checkpoint={config.checkpoint!r}: last or best")
    if not folder.is_done:
        status = folder.status()
        where = f"at step {status.get('step', 0)} of {status.get('max_steps', '?')}"
        command = folder.facts().get("command")
        advice = f"its command, {command}" if command else "the command that began it, which run.json does not tell"
        raise StoreError(f"{folder.path} is {status['state']} {where}: finish it first with {advice}")
    checkpoint = folder.last_checkpoint if config.checkpoint == "last" else folder.best_checkpoint
    if not checkpoint.is_file():
        advice = "; it is kept when a training validates" if config.checkpoint == "best" else ""
        raise StoreError(f"checkpoint={config.checkpoint}: {checkpoint} is not there{advice}")
    run_config = written(folder.config(), where=str(folder.config_file))
    trained_on = dict(run_config["data"]["val"])
    suffix = "" if config.checkpoint == "last" else "@best"
    own_precision = folder.results().get("training", {}).get("precision") or run_config["recipe"]["precision"]
    suffix += _adapt(run_config, config) + _precision(run_config, config, own=own_precision) + _tag(config)
    return Subject(
        name="/".join(folder.path.resolve().parts[-2:]),
        folder=folder,
        config=run_config,
        checkpoint=config.checkpoint,
        suffix=suffix,
        is_as_trained=all(key is None for key in (config.data, config.data_root, config.split)),
        trained_on=trained_on,
        other_classes=config.other_classes,
    )


def subject_of_weights(config: DictConfig) -> Subject:
    """Released weights; nothing heavy is imported and nothing fetched.

    Raises:
        ConfigError: the name is unknown, or no data is given.
    """
    from atrous.weights.zoo import preset

    found = preset(config.weights)
    if found.network.model is None:
        raise ConfigError(f"weights={found.name} is a backbone for ImageNet; it can be trained, but not evaluated")
    if config.data is None:
        raise ConfigError(f"weights={found.name} is scored on which data? Give e.g. data=voc data.root=FOLDER")
    recipe = {"preprocessing": found.preprocessing, "precision": _OF_WEIGHTS}
    run_config: dict[str, Any] = {"trainer": {}, "recipe": recipe, "data": {}}
    choice = _adapt(run_config, config).split("@")[1]
    suffix = "" if choice == {"voc2012": "voc"}.get(found.dataset, found.dataset) else f"@{choice}"
    suffix += f"@{config.split}" if config.split else ""
    suffix += _precision(run_config, config, own=_OF_WEIGHTS) + _tag(config)
    folder = RunFolder(Path(config.store) / "weights" / found.name)
    return Subject(
        name=found.name,
        folder=folder,
        config=run_config,
        checkpoint=RELEASED,
        suffix=suffix,
        source=config.source,
        other_classes=config.other_classes,
    )


def _adapt(run_config: dict[str, Any], config: DictConfig) -> str:
    """Put in which data, where and how fast; returns the suffix that other data or another split give an entry."""
    from hydra.core.hydra_config import HydraConfig

    suffix, data = "", run_config["data"]
    if config.data is not None:
        choice = HydraConfig.get().runtime.choices["data"]
        if choice is None:
            keys = ", ".join(f"data.{key}" for key in config.data)
            raise ConfigError(f"{keys} without data=NAME changes no data: choose one, or give data_root=FOLDER alone")
        data.update(OmegaConf.to_container(config.data, resolve=True, throw_on_missing=True))
        suffix += f"@{choice}"
    if config.data_root is not None:
        data["root"] = data["val"]["root"] = config.data_root
    if config.split is not None:
        data["val"]["split"] = config.split
        suffix += f"@{config.split}"
    if config.batch_size is not None:
        data["val_batch_size"] = config.batch_size
    run_config["trainer"]["accelerator"] = config.accelerator
    return suffix


def _precision(run_config: dict[str, Any], config: DictConfig, *, own: str) -> str:
    """Put in which precision; returns the suffix that another than the own one gives an entry."""
    if config.precision in (None, run_config["recipe"]["precision"]):
        return ""
    run_config["recipe"]["precision"] = config.precision
    asked: str = config.precision
    if "auto" in (asked, own):  # PyTorch knows what it means here
        device = device_type(config.accelerator)
        asked, own = resolve_precision(asked, device), resolve_precision(own, device)
    return "" if asked == own else f"@{asked}"


def _tag(config: DictConfig) -> str:
    if config.tag is None:
        return ""
    if not re.fullmatch(r"\w[\w.-]*", str(config.tag)):
        raise ConfigError(f"tag={config.tag!r} becomes a part of a folder's name: letters, digits, _, - and . only")
    return f"@{config.tag}"
