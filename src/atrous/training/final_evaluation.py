"""The evaluation that ends a run: it says how far it is, and is ended where it hangs."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from atrous.data.dataset import SegmentationDataset
from atrous.evaluation.predicting import Progress
from atrous.networks.segmenter import Segmenter
from atrous.progress import SECONDS_BETWEEN_LINES, progress
from atrous.run_store import RunFolder
from atrous.training.measuring import measure
from atrous.training.submitting import submit
from atrous.training.watchdog import Watchdog, signs_of

Config = Mapping[str, Any]


def evaluate_finished(
    folder: RunFolder, config: Config, model: Segmenter, val_set: SegmentationDataset, protocols: Sequence[str]
) -> None:
    """Measure a trained network, or write the archives for its test server; on the first rank.

    Args:
        folder: of the run.
        config: of the run.
        model: with its weights.
        val_set: what is scored.
        protocols: names.

    Raises:
        ConfigError: a protocol or the data set does not fit the network.
        DataError: the data set is not the server's.
    """
    watchdog = Watchdog(folder=folder, seconds=config["trainer"]["timeout_seconds"], rank=0)
    with watchdog.watching("the evaluation began"), signs_of(model, watchdog), _shown(folder, config) as show:

        def on_progress(done: int, total: int) -> None:
            watchdog.note(f"image {done} of {total} of the evaluation")
            show(done, total)

        if config["submission"] is not None:
            submit(folder, config, model, protocols, on_progress=on_progress)
        else:
            entries = dict(zip(protocols, protocols, strict=True))
            boundary = config["boundary"]
            measure(folder, config, model, val_set, entries, boundary=boundary, on_progress=on_progress)


@contextmanager
def _shown(folder: RunFolder, config: Config) -> Iterator[Progress]:
    """A bar on a terminal; elsewhere a line every ten seconds, and as often status.json for whoever watches.

    A run that is done stays so while it is measured under further protocols.
    """
    has_bar = config["trainer"]["progress"] and sys.stdout.isatty() and sys.stderr.isatty()
    said_at, is_done = time.monotonic(), folder.is_done
    with progress("evaluating, image", bar=has_bar) as tell:

        def show(done: int, total: int) -> None:
            nonlocal said_at
            tell(done, total)
            if not is_done and (now := time.monotonic()) - said_at > SECONDS_BETWEEN_LINES:
                said_at = now
                folder.set_status("running", evaluating=f"{done}/{total}")

        yield show
