"""W&B as an optional second place for what metrics.csv holds: one run per training, on rank 0, offline if need be."""

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger


class WandbLog(Logger):
    """One W&B run whose id is the identity of the training, so that a resumed one goes on in it.

    Args:
        folder: where W&B keeps its files.
        settings: project, entity and mode ("auto": online when there is a login).
        facts: run.json: key, name, table, row and seed.
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
        import wandb

        self._wandb, self._classes = wandb, dict(enumerate(classes))
        row = facts.get("row") or facts["name"]
        self.run = wandb.init(
            project=settings["project"],
            entity=settings["entity"],
            mode=_mode(str(settings["mode"])),
            dir=str(folder),
            id=str(facts["key"]),
            resume="allow",
            group=facts.get("table") or facts["name"],
            name=f"{row}-seed{facts['seed']}",
            job_type="train",
            tags=[str(row)[:60], f"seed{facts['seed']}"],
            config=dict(config),
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.run.define_metric("trainer/global_step")
        self.run.define_metric("*", step_metric="trainer/global_step")

    @property
    def name(self) -> str:
        """Name for Lightning."""
        return "wandb"

    @property
    def version(self) -> str:
        """The run's id."""
        return str(self.run.id)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log scalars at an optimiser step."""
        self.run.log({**metrics, "trainer/global_step": step})

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config was given when the run began."""

    def send(self, images: Sequence[tuple[Any, ...]], step: int) -> None:
        """Log images with truth and prediction as masks."""
        pictures = [
            self._wandb.Image(
                pixels,
                caption=name,
                masks={
                    "prediction": {"mask_data": prediction, "class_labels": self._classes},
                    "truth": {"mask_data": truth, "class_labels": {**self._classes, 255: "void"}},
                },
            )
            for pixels, truth, prediction, name in images
        ]
        self.run.log({"val/samples": pictures, "trainer/global_step": step})

    def finish(self, summary: Mapping[str, Any], *, exit_code: int) -> None:
        """Write the summary and close the run."""
        self.run.summary.update(dict(summary))
        self.run.finish(exit_code=exit_code)


def _mode(mode: str) -> Any:
    if mode != "auto":
        return mode
    has_login = bool(os.environ.get("WANDB_API_KEY")) or "api.wandb.ai" in _netrc()
    return os.environ.get("WANDB_MODE") or ("online" if has_login else "offline")


def _netrc() -> str:
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return path.read_text() if path.is_file() else ""
