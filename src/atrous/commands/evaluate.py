"""atrous-evaluate: score a finished run under other protocols."""

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from atrous.commands.app import run_app
from atrous.errors import ConfigError, StoreError


def task(config: DictConfig) -> None:
    """Add an entry to results.json for every protocol that has none yet."""
    import yaml

    from atrous.evaluation.protocol import load_protocol
    from atrous.run_store import RunFolder

    folder = RunFolder(Path(config.run))
    if not folder.config_file.is_file():
        raise StoreError(f"run={config.run!r} is not the folder of a run: it has no config.yaml")
    names = list(config.protocols)
    for name in names:
        load_protocol(name)
    if config.checkpoint not in ("last", "best"):
        raise ConfigError(f"checkpoint={config.checkpoint!r}: last or best")
    if not folder.is_done:
        status = folder.status()
        where = f"at step {status.get('step', 0)} of {status.get('max_steps', '?')}"
        raise StoreError(
            f"{folder.path} is {status['state']} {where}: finish it first with its command, {folder.facts()['command']}"
        )
    run_config = yaml.safe_load(folder.config_file.read_text())
    _adapt(run_config, config)
    with folder.lock():
        _measure(folder, run_config, config, names)
    for name in names:
        entry = folder.results()["evaluations"][_entry(name, config)]
        scores = f"mIoU {100 * entry['miou']:.2f}%  pixel accuracy {100 * entry['pixel_accuracy']:.2f}%"
        print(f"{name}: {scores}  {entry['images']} images, {entry['pixels']} pixels")  # noqa: T201


def _adapt(run_config: dict[str, Any], config: DictConfig) -> None:
    """Where and how fast: the only things that may differ from the training."""
    run_config["trainer"]["accelerator"] = config.accelerator
    run_config["data"]["val_batch_size"] = config.batch_size
    if config.data_root is not None:
        run_config["data"]["root"] = config.data_root
        run_config["data"]["val"]["root"] = config.data_root


def _entry(name: str, config: DictConfig) -> str:
    return name if config.checkpoint == "last" else f"{name}@best"


def _measure(folder: Any, run_config: dict[str, Any], config: DictConfig, names: list[str]) -> None:
    todo = [name for name in names if config.overwrite or folder.missing_protocols([_entry(name, config)])]
    if not todo:
        return
    import torch

    from atrous.building import build
    from atrous.training.checkpoints import load_weights
    from atrous.training.run import build_model, measure

    if config.threads:
        torch.set_num_threads(config.threads)
    dataset = build(run_config["data"]["val"], where="data.val")
    model = build_model(run_config, num_classes=dataset.spec.num_classes)
    load_weights(model, folder.last_checkpoint if config.checkpoint == "last" else folder.best_checkpoint)
    for name in todo:
        measure(folder, run_config, model, dataset, name, checkpoint=config.checkpoint)


def main() -> None:
    """Entry point; `protocol=a,b` is short for the list `protocols=[a,b]`."""
    short = "protocol="
    sys.argv[1:] = [f"protocols=[{text[len(short) :]}]" if text.startswith(short) else text for text in sys.argv[1:]]
    run_app(task, config_name="evaluate")


if __name__ == "__main__":
    main()
