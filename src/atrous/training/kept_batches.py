"""Batches that a training could not use, kept for whoever looks for the cause."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from atrous.data.loading import Sample
from atrous.files import write_atomically
from atrous.run_store import RunFolder

_MOST_FILES = 10


def keep_batch(folder: RunFolder, batches: Sequence[Sample], facts: Mapping[str, Any], *, ranks: int) -> str:
    """Write a rank's part of a step's batch to `<run>/nonfinite`, the first ten times.

    Args:
        folder: of the run.
        batches: of the micro-steps.
        facts: what else the file holds, `step` and `rank` among them: plain values.
        ranks: how many there are.

    Returns:
        Where it is, or why it is not, in words.
    """
    place = folder.path / "nonfinite"
    suffix = f"-rank{facts['rank']}" if ranks > 1 else ""
    if len(list(place.glob(f"step*{suffix}.pt"))) >= _MOST_FILES:
        return f"the first {_MOST_FILES} batches are in {place}"
    # A copy: a batch is a view of memory that holds more than it.
    tensors = {key: torch.cat([batch[key] for batch in batches]).cpu() for key in ("image", "label", "extent", "index")}
    path = place / f"step{facts['step']}{suffix}.pt"
    try:
        write_atomically(path, lambda stream: torch.save({**facts, **tensors}, stream))
    except OSError as error:
        return f"the batch could not be kept: {error}"
    return f"the batch is kept in {path}"
