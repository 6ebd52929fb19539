"""atrous-evaluate: score a finished run, or released weights, under other protocols; pages and test-server files."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from atrous.commands.app import run_app
from atrous.commands.evaluate_choice import subject_of_run, subject_of_weights
from atrous.commands.evaluate_subject import RELEASED, Subject
from atrous.commands.memory import memory_watched
from atrous.commands.words import as_list, with_path_quoted
from atrous.errors import ConfigError, StoreError
from atrous.evaluation.entry import interval_text
from atrous.evaluation.servers import SERVER_NAMES
from atrous.files import write_text
from atrous.hardware import check_threads, require_device
from atrous.run_shapes import ENTRY_BYTES, is_entry_name
from atrous.studies.recipe_checks import PRECISIONS

_PATHS = ("run", "compare", "source", "data_root", "data.root", "store")
_INTERRUPTED = "nothing of this pass over the images is kept: the same command begins it anew"


def task(config: DictConfig) -> None:
    """Add an entry to results.json for every protocol that has none yet, and write what else was asked for."""
    subjects = _subjects(config)
    names = list(config.protocols)
    _check(config, names)
    _check_entries(subjects, names)
    with memory_watched(lambda: _to_lower(subjects[0], names)), ExitStack() as locks:
        changing = [one for one in subjects if _is_changed(one, config, names, is_first=one is subjects[0])]
        for subject in sorted(changing, key=lambda subject: subject.folder.path.resolve()):
            _require_writable(subject)
            locks.enter_context(subject.folder.lock())
        if config.submission is not None:
            from atrous.commands.evaluate_submission import write

            write(subjects[0], config, names[0])
            return
        measured = [_measure(subject, config, names) for subject in subjects]
        _say(subjects, names)
        for name in names if config.page else ():
            _write_pages(subjects, config, name, measured)


def _to_lower(subject: Subject, names: list[str]) -> str:
    size = subject.config["data"]["val_batch_size"]
    keys = [f"batch_size={max(1, size // 2)} (now {size})"] if size > 1 else []
    keys.append(f"a protocol with fewer scales or with tiles, such as tiles_os16 (now {', '.join(names)})")
    return f"lower what is in memory at once: {' or '.join(keys)}"


def _subjects(config: DictConfig) -> list[Subject]:
    if config.weights is None:
        subjects = [subject_of_run(config.run, config)]
    elif not OmegaConf.is_missing(config, "run"):
        raise ConfigError(f"run={config.run} and weights={config.weights}: evaluate one of them at a time")
    else:
        subjects = [subject_of_weights(config)]
    if config.compare is not None:
        if Path(config.compare).resolve() == subjects[0].folder.path.resolve():
            raise ConfigError(f"compare={config.compare!r} is the run itself: give another run")
        subjects.append(subject_of_run(config.compare, config, key="compare"))
    return subjects


def _check(config: DictConfig, names: list[str]) -> None:
    from atrous.evaluation.protocol import load_protocol

    for name in names:
        load_protocol(name)
    if not names:
        raise ConfigError("protocols=[] leaves nothing to measure: e.g. protocol=single")
    if config.submission not in (None, *SERVER_NAMES):
        raise ConfigError(f"submission={config.submission!r}: one of {', '.join(SERVER_NAMES)}")
    if config.submission is not None and len(names) > 1:
        raise ConfigError(f"submission={config.submission} is written under one protocol, not {', '.join(names)}")
    if config.precision not in (None, *PRECISIONS):
        raise ConfigError(f"precision={config.precision!r}: one of {', '.join(PRECISIONS)}")
    if config.batch_size is not None and config.batch_size < 1:
        raise ConfigError(f"batch_size={config.batch_size}: at least 1")
    check_threads(config.threads)
    require_device(config.accelerator, key="accelerator")


def _check_entries(subjects: list[Subject], names: list[str]) -> None:
    for entry in (subject.entry(name) for subject in subjects for name in names):
        if not is_entry_name(entry):
            raise ConfigError(
                f"the entry of results.json, and its folder, would be {entry!r}, after protocol, data, split and tag: "
                f"at most {ENTRY_BYTES} bytes, with no '.', '..' or nothing between slashes, and no control characters"
            )


def _is_changed(subject: Subject, config: DictConfig, names: list[str], *, is_first: bool) -> bool:
    """Whether the command writes into a subject's folder; what is only read may be somebody else's."""
    from atrous.commands.evaluate_entries import is_missing

    beside = config.submission is not None or (config.page and config.compare is not None)
    if config.overwrite or (is_first and beside):
        return True
    return any(
        is_missing(subject, config, subject.entry(name)) or (config.page and not subject.page(name).is_file())
        for name in names
    )


def _require_writable(subject: Subject) -> None:
    folder = subject.folder.path / "evaluation"
    probe = folder / f".writable-{os.getpid()}"  # of this command, of which others may run beside it
    try:
        write_text(probe, "")
        probe.unlink()
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error.strerror}): results would be lost") from None


def _measure(subject: Subject, config: DictConfig, names: list[str]) -> list[str]:
    """Evaluate under the protocols whose entry, or whose records for the page, are not there yet; returns entries."""
    from atrous.commands.evaluate_entries import is_missing

    todo = {name: subject.entry(name) for name in names if is_missing(subject, config, subject.entry(name))}
    if not todo:
        return []
    import torch

    from atrous.data.leakage import require_masks
    from atrous.evaluation.predicting import check_protocols
    from atrous.evaluation.protocol import load_protocol
    from atrous.progress import progress
    from atrous.training.measuring import measure

    if config.threads:
        torch.set_num_threads(config.threads)
    require_masks(subject.dataset, key="data.val")
    check_protocols(subject.model, {name: load_protocol(name) for name in todo})
    with progress(subject.name) as report:
        measure(
            subject.folder,
            subject.config,
            subject.model,
            subject.dataset,
            todo,
            checkpoint=subject.checkpoint,
            boundary=config.boundary,
            overwrite=config.overwrite,
            weights=subject.weights_facts,
            on_progress=report,
        )
    return list(todo.values())


def _say(subjects: list[Subject], names: list[str]) -> None:
    for subject in subjects:
        if len(subjects) > 1:
            print(subject.name)  # noqa: T201
        for name in names:
            entry = subject.folder.results()["evaluations"][subject.entry(name)]
            interval = interval_text(entry, form=".2f")
            miou = f"{100 * entry['miou']:.2f}%{f' ({interval})' if interval else ''}"
            scores = f"mIoU {miou}  pixel accuracy {100 * entry['pixel_accuracy']:.2f}%"
            counted = f"{entry['images']} images, {entry['pixels']} pixels"
            print(f"{subject.entry(name)}: {scores}  {counted}{_published(subject, name, entry)}")  # noqa: T201


def _published(subject: Subject, name: str, entry: dict[str, Any]) -> str:
    known = subject.published(name)
    if known is None:
        return "  nothing published under this protocol of these images" if subject.checkpoint == RELEASED else ""
    return f"  published {known:.2f}% (difference {100 * entry['miou'] - known:+.2f})"


def _write_pages(subjects: list[Subject], config: DictConfig, name: str, measured: list[list[str]]) -> None:
    """Write the pages that are not there, or whose numbers were measured just now."""
    for subject, entries in zip(subjects, measured, strict=True):
        if config.overwrite or not subject.page(name).is_file() or subject.entry(name) in entries:
            from atrous.commands.evaluate_pages import evaluation_page

            evaluation_page(subject, name)
        print(f"page: {subject.page(name)}")  # noqa: T201
    if len(subjects) > 1:
        from atrous.commands.evaluate_pages import comparison_page

        print(f"comparison: {comparison_page(subjects[0], subjects[1], name)}")  # noqa: T201


def written_out(argument: str) -> str:
    """Return an argument as Hydra takes it: `protocol=a,b` is short for `protocols=[a,b]`, and paths are quoted."""
    return with_path_quoted(as_list(argument, "protocol", "protocols"), _PATHS)


def main() -> None:
    """Entry point."""
    sys.argv[1:] = [written_out(text) for text in sys.argv[1:]]
    run_app(task, config_name="evaluate", interrupted=_INTERRUPTED)


if __name__ == "__main__":
    main()
