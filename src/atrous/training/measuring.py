"""From trained weights to entries of results.json, with what was counted in each image beside them."""

from collections.abc import Mapping
from typing import Any

from atrous import run_files
from atrous.data.dataset import SegmentationDataset
from atrous.errors import StoreError
from atrous.evaluation.evaluate import evaluate_protocols
from atrous.evaluation.predicting import Feeding, Progress, silent
from atrous.evaluation.protocol import load_protocol
from atrous.hardware import device_type, resolve_precision
from atrous.networks.segmenter import Segmenter
from atrous.run_store import RunFolder
from atrous.training import machine
from atrous.training.scored import scored_on

Config = Mapping[str, Any]


def feeding_of(config: Config) -> Feeding:
    """How a config's network is fed on this machine."""
    device = device_type(config["trainer"]["accelerator"])
    size = config["data"]["evaluation_size"]
    return Feeding(
        preprocessing_name=config["recipe"]["preprocessing"],
        padded_size=None if size is None else (size[0], size[1]),
        batch_size=config["data"]["val_batch_size"],
        num_workers=config["data"]["num_workers"],
        device=device,
        autocast=machine.autocast_dtype(_precision_of(config)),
        tf32=config["trainer"].get("tf32", False),  # released weights have no trainer
    )


def _precision_of(config: Config) -> str:
    return resolve_precision(config["recipe"]["precision"], device_type(config["trainer"]["accelerator"]))


def measure(
    folder: RunFolder,
    config: Config,
    model: Segmenter,
    dataset: SegmentationDataset,
    entries: Mapping[str, str],
    *,
    checkpoint: str = "last",
    boundary: bool = False,
    overwrite: bool = True,
    weights: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
) -> None:
    """Evaluate a trained model under several protocols in one pass and add the entries to results.json.

    Args:
        folder: of the run.
        config: of the run.
        model: with its weights.
        dataset: that is scored.
        entries: names of the entries by those of the protocols.
        checkpoint: where the weights come from, for the entry.
        boundary: whether outlines are scored too.
        overwrite: whether an entry that is there may change; if not, it may only gain what it lacks.
        weights: what an entry tells of released weights.
        on_progress: told (images done, images in all).

    Raises:
        ConfigError: a protocol or the data set does not fit the network.
        StoreError: an entry would change; the others are added. Or the run's folder was removed meanwhile.
    """
    if not entries:
        return
    protocols = {name: load_protocol(name) for name in entries}
    scored = {**scored_on(config, dataset), **(weights or {})}
    found = evaluate_protocols(
        model, dataset, protocols, feeding_of(config), boundary=boundary, on_progress=on_progress
    )
    run_files.require(folder.path)
    results, changed = {}, []
    old = {} if overwrite else folder.results().get("evaluations", {})
    for name, evaluation in found.items():
        matrix = evaluation.records.matrix.tolist()
        before = old.get(entries[name], {"confusion": matrix})
        if before["confusion"] != matrix:
            changed.append(entries[name])
            continue
        evaluation.records.save(folder.records_file(entries[name]))
        facts = {"protocol": protocols[name].as_dict(), "checkpoint": checkpoint, "scored": scored}
        how = {"precision": _precision_of(config), "seconds": round(evaluation.seconds, 2)}
        fresh = {**evaluation.result(dataset.spec.classes), **facts, **how}
        results[entries[name]] = {**fresh, **before}
    folder.add_results(evaluations=results)
    if changed:
        raise StoreError(
            f"{folder.path}: {', '.join(changed)} was measured before with another outcome (other weights, precision "
            "or device?); overwrite=true replaces it"
        )
