"""What atrous-evaluate evaluates: a finished run, or released weights; opened only when there is something to do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from atrous.errors import ConfigError, StoreError
from atrous.run_store import RunFolder
from atrous.studies.configuration import written

if TYPE_CHECKING:
    from atrous.data.dataset import SegmentationDataset
    from atrous.networks.segmenter import Segmenter

RELEASED = "released"


@dataclass(kw_only=True)
class Subject:
    """One set of weights and the data that it is scored on; both are opened when they are first asked for.

    Attributes:
        name: for people.
        folder: where results go.
        config: the run's config, or what stands for it: data, recipe, trainer.
        checkpoint: last, best or released.
        suffix: of the entries in results.json, for what differs from the run's own evaluation.
        source: file of released weights, or None.
    """

    name: str
    folder: RunFolder
    config: dict[str, Any]
    checkpoint: str
    suffix: str = ""
    source: str | None = None

    def entry(self, protocol: str) -> str:
        """Name of a protocol's entry in results.json."""
        return f"{protocol}{self.suffix}"

    def page(self, protocol: str) -> Path:
        """Where the page of an evaluation is."""
        return self.folder.path / "evaluation" / self.entry(protocol) / "index.html"

    def published(self, protocol: str) -> float | None:
        """The mIoU in percent that released weights were published with under this protocol; None where none was."""
        if self.checkpoint != RELEASED or self.suffix:
            return None
        from atrous.evaluation.protocol import load_protocol
        from atrous.weights.zoo import preset

        settings = load_protocol(protocol)
        for expected in preset(self.name).expected:
            found = (expected.output_stride, tuple(expected.scales), expected.flip, expected.split)
            if found == (settings.output_stride, tuple(settings.scales), settings.flip, "val"):
                return expected.miou if settings.is_whole_image else None
        return None

    @cached_property
    def dataset(self) -> SegmentationDataset:
        """The images."""
        from atrous.building import build

        dataset: SegmentationDataset = build(self.config["data"]["val"], where="data.val")
        return dataset

    @cached_property
    def model(self) -> Segmenter:
        """The network with its weights.

        Raises:
            ConfigError: the data set has another number of classes.
            CheckpointError: the weights cannot be had or read.
        """
        if self.checkpoint == RELEASED:
            return _released(self.name, self.source, self.dataset)
        from atrous.training.checkpoints import load_weights, read_checkpoint
        from atrous.training.run import build_model

        path = self.folder.best_checkpoint if self.checkpoint == "best" else self.folder.last_checkpoint
        classifier = read_checkpoint(path)["state_dict"].get("model.classifier.weight")
        if classifier is not None:  # otherwise loading says what is wrong
            _require_classes(len(classifier), self.dataset, what=str(self.folder.path))
        fresh = {**self.config, "recipe": {**self.config["recipe"], "pretrained": None}}
        model = build_model(fresh, num_classes=self.dataset.spec.num_classes)
        load_weights(model, path)
        return model


def subject_of_run(path: str, config: DictConfig) -> Subject:
    """A finished run; nothing heavy is imported.

    Raises:
        StoreError: no run, not finished (says how far it got), without the checkpoint or with a damaged config.
        ConfigError: an unknown kind of checkpoint.
    """
    folder = RunFolder(Path(path))
    if not folder.config_file.is_file():
        raise StoreError(f"run={path!r} is not the folder of a run: it has no config.yaml")
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
    suffix = "" if config.checkpoint == "last" else "@best"
    suffix += _adapt(run_config, config)
    name = "/".join(folder.path.resolve().parts[-2:])
    return Subject(name=name, folder=folder, config=run_config, checkpoint=config.checkpoint, suffix=suffix)


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
    recipe = {"preprocessing": found.preprocessing, "precision": config.precision or "32-true"}
    run_config: dict[str, Any] = {"trainer": {}, "recipe": recipe, "data": {}}
    choice = _adapt(run_config, config).split("@")[1]
    suffix = "" if choice == {"voc2012": "voc"}.get(found.dataset, found.dataset) else f"@{choice}"
    suffix += f"@{config.split}" if config.split else ""
    folder = RunFolder(Path(config.store) / "weights" / found.name)
    return Subject(
        name=found.name, folder=folder, config=run_config, checkpoint=RELEASED, suffix=suffix, source=config.source
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
    if config.precision is not None:
        run_config["recipe"]["precision"] = config.precision
    run_config["trainer"]["accelerator"] = config.accelerator
    return suffix


def _released(name: str, source: str | None, dataset: SegmentationDataset) -> Segmenter:
    from atrous.weights import load_preset, preset

    _require_classes(preset(name).classes, dataset, what=f"weights={name}")
    return load_preset(name, source=source)


def _require_classes(number: int, dataset: SegmentationDataset, *, what: str) -> None:
    if number != dataset.spec.num_classes:
        raise ConfigError(
            f"{what} tells {number} classes apart, but the data set {dataset.spec.name!r} has "
            f"{dataset.spec.num_classes}: evaluate it on the kind of data that it was trained on"
        )
