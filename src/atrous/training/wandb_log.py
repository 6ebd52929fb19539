"""W&B as an optional second place for what metrics.csv holds: one run per training, on rank 0, offline if need be."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from atrous.boards.board import Board

_LONGEST_TAG = 64


class WandbLog(Logger):
    """One W&B run whose id is the identity of the training, so that a resumed one goes on in it.

    Args:
        folder: where W&B keeps its files.
        settings: project, entity, mode ("auto": online when there is a login) and patience in seconds.
        facts: run.json: key, name, table, row, seed and command.
        config: the resolved config, nested as in conf/.
        classes: class names, for masks.
    """

    def __init__(
        self,
        *,
        folder: Path,
        settings: Mapping[str, Any],
        facts: Mapping[str, Any],
        config: Mapping[str, Any],
        classes: Sequence[str],
    ) -> None:
        super().__init__()
        self._classes, self._key = dict(enumerate(classes)), str(facts["key"])
        row = str(facts.get("row") or facts["name"])
        run = {
            "project": settings["project"],
            "entity": settings["entity"],
            "dir": str(folder),
            "id": self._key,
            "group": facts.get("table") or facts["name"],
            "name": f"{row}-seed{facts['seed']}",
            "job_type": "train",
            "tags": [row[:_LONGEST_TAG], f"seed{facts['seed']}"],
            "notes": facts.get("command"),
            "config": dict(config),
        }
        self._board = Board(run=run, mode=settings["mode"], patience=settings["patience"])

    @property
    def name(self) -> str:
        """Name for Lightning."""
        return "wandb"

    @property
    def version(self) -> str:
        """The run's id."""
        return self._key

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log scalars at an optimiser step."""
        self._board.log(metrics, step=step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config was given when the run began."""

    def send(self, images: Sequence[tuple[Any, ...]], step: int) -> None:
        """Log images with truth and prediction as masks."""
        self._board.log_masks(images, classes=self._classes, step=step)

    def finish(self, results: Mapping[str, Any], *, exit_code: int) -> None:
        """Write the summary and close the run.

        Args:
            results: results.json: its scores, and what is known of the model and of the training.
            exit_code: 0 unless the training failed.
        """
        scores = {f"{name}/miou": entry["miou"] for name, entry in results.get("evaluations", {}).items()}
        summary = {**scores, **results.get("model", {}), **results.get("training", {})}
        self._board.finish(summary, exit_code=exit_code)
