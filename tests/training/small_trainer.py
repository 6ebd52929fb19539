"""A Trainer that is as long as its steps, as that of a run is, for modules of one weight."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, Trainer


def small_trainer(callbacks: Sequence[Callback], *, val_every: int, **options: Any) -> Trainer:
    """Six steps on a CPU with a validation after every `val_every` batches; nothing is logged or saved by itself."""
    return Trainer(
        accelerator="cpu",
        max_steps=6,
        max_epochs=-1,
        val_check_interval=val_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )
