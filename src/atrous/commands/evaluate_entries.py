"""Which entries of results.json are there already, and whether they are of what is asked for now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig

from atrous.commands.evaluate_subject import Subject
from atrous.errors import StoreError
from atrous.training.scored import asked


def is_missing(subject: Subject, config: DictConfig, entry: str) -> bool:
    """Whether an entry, or what the command needs beside it, must be measured.

    Raises:
        StoreError: an entry of this name is there, and something else was scored for it.
    """
    found = subject.folder.results().get("evaluations", {}).get(entry)
    if found is None or config.overwrite:
        return True
    _require_same(subject, entry, found)
    if config.boundary and "boundary" not in found:
        return True
    return bool(config.page or config.compare is not None) and not subject.folder.records_file(entry).is_file()


def _require_same(subject: Subject, entry: str, found: Mapping[str, Any]) -> None:
    """Compare what was scored; images are looked at only where the config is another one."""
    then, now = found.get("scored"), {**asked(subject.config), **subject.weights_facts}
    if then is None:
        _require_same_names(subject, entry, found)
        return
    differing = dict(_differences(then, now))
    if not differing:
        return
    is_elsewhere = not {"padded_size", "weights"} & set(differing)
    if is_elsewhere and subject.scored["samples"] == then.get("samples"):
        return
    before, wanted = (", ".join(f"{key}={pair[place]!r}" for key, pair in differing.items()) for place in (0, 1))
    raise _refusal(subject, entry, f"is of {before}, but asked for is {wanted}")


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for key in ("padded_size", "weights"):
        if then.get(key) != now.get(key):
            yield key, (then.get(key), now.get(key))
    data_then, data_now = then.get("data", {}), now["data"]
    for key in dict.fromkeys([*data_now, *data_then]):
        if data_then.get(key) != data_now.get(key):
            yield f"data.val.{key}", (data_then.get(key), data_now.get(key))


def _require_same_names(subject: Subject, entry: str, found: Mapping[str, Any]) -> None:
    """Compare with an entry of an earlier version, which tells the number of the images and their names."""
    if subject.is_as_trained:
        return
    from atrous.evaluation.records import ImageRecords

    dataset, records = subject.dataset, subject.folder.records_file(entry)
    if found.get("images", len(dataset)) != len(dataset):
        raise _refusal(subject, entry, f"is of {found['images']} images, but asked for are {len(dataset)}")
    names = tuple(dataset.sample_id(index) for index in range(len(dataset)))
    if records.is_file() and ImageRecords.load(records).ids != names:
        raise _refusal(subject, entry, f"is of {len(names)} images of other names than those that are asked for")


def _refusal(subject: Subject, entry: str, what: str) -> StoreError:
    return StoreError(
        f"{subject.folder.path / 'results.json'}: {entry} {what}: overwrite=true replaces it, tag=NAME puts another "
        "beside it"
    )
