"""A full memory of the machine: whether the kernel has ended a process for it, and what to lower."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from atrous.errors import StoreError
from atrous.hardware import GPUS, device_type, resolve_precision
from atrous.run_store import RunFolder

Config = Mapping[str, Any]
_TOLD = "the kernel ended a process meanwhile, for the machine or its control group was out of memory"
_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def kills(root: Path = Path("/")) -> int:
    """Return how many processes the kernel has ended for lack of memory.

    It counts them in the control group of this process, which its children share, and on the whole machine where that
    cannot be read; 0 where neither can, such as on macOS.

    Args:
        root: of the file system.
    """
    for path in _counters(root):
        with suppress(OSError):
            if found := _COUNT.search(path.read_text()):
                return int(found[1])
    return 0


def _counters(root: Path) -> Iterator[Path]:
    groups: list[str] = []
    with suppress(OSError):
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    base = root / "sys/fs/cgroup"
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):  # the first version of control groups
            yield base / "memory" / path.lstrip("/") / "memory.oom_control"
            yield base / "memory/memory.oom_control"  # of a container that sees its own group as the root
        elif not controllers:
            yield base / path.lstrip("/") / "memory.events"
    yield root / "proc/vmstat"


class Watch:
    """Whether the kernel has ended a process lately: what it did long before the end of another one explains nothing.

    Args:
        seconds: that count as lately.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._looks = deque([(time.monotonic(), kills())])

    def look(self) -> None:
        """Count, once a second at most; to be called again and again."""
        now = time.monotonic()
        if now < self._looks[-1][0] + 1:
            return
        self._looks.append((now, kills()))
        while len(self._looks) > 1 and self._looks[1][0] <= now - self._seconds:
            self._looks.popleft()

    def has_killed(self) -> bool:
        """Whether it has, since the look that is as old as `seconds`, or since the first one."""
        return kills() > self._looks[0][1]


def advice(config: Config, *, is_evaluating: bool) -> str:
    """Say which keys would help, in the order in which they cost least.

    Args:
        config: Of the run.
        is_evaluating: Whether it had been trained.
    """
    device = device_type(config["trainer"]["accelerator"])
    return _lower(_for_evaluation(config) if is_evaluating else _for_training(config, device))


def advice_after_kill(folder: RunFolder) -> str:
    """Say that the kernel ended a process, and which keys would help; PyTorch is not loaded for that.

    Args:
        folder: Of the run; what cannot be read in it is left out.
    """
    try:
        config, step = folder.config(), folder.status().get("step", 0)
    except StoreError:
        return _TOLD
    keys: Iterable[str] = ()
    if config["trainer"]["accelerator"] not in GPUS:  # where it is not this memory that the network fills
        is_evaluating = step >= config["recipe"]["max_steps"]
        keys = _for_evaluation(config) if is_evaluating else _for_training(config, "cpu")
    return f"{_TOLD}. {_lower([*keys, *_for_machine(config)])}"


def advice_for_worker(config: Config) -> str:
    """Say that the kernel ended a process, and which keys would help where that was a worker of the loader."""
    return f"{_TOLD}. {_lower(_for_machine(config))}"


def _lower(keys: Iterable[str]) -> str:
    return f"Lower what is in memory at once: {'; or '.join(keys)}"


def _for_machine(config: Config) -> Iterator[str]:
    workers = config["data"]["num_workers"]
    if workers:
        yield f"data.num_workers={workers // 2} (now {workers}, for each process that trains)"
    yield "fewer runs at once (hydra.launcher.jobs)"


def _for_evaluation(config: Config) -> Iterator[str]:
    size = config["data"]["val_batch_size"]
    if size > 1:
        yield f"data.val_batch_size={max(1, size // 2)} (now {size})"
    yield "a protocol with fewer scales, or with tiles (conf/protocol)"


def _for_training(config: Config, device: str) -> Iterator[str]:
    recipe, trainer = config["recipe"], config["trainer"]
    ranks, accumulate, size = trainer["nodes"] * trainer["devices"], trainer["accumulate"], recipe["batch_size"]
    if trainer["activation_checkpointing"] != "units":
        yield "trainer.activation_checkpointing=units (the same numbers, more time)"
    precision = resolve_precision(recipe["precision"], device)
    if precision not in ("bf16-mixed", "16-mixed"):
        yield f"recipe.precision=bf16-mixed (now {precision})"
    fits = [parts for parts in range(accumulate + 1, size + 1) if size % (parts * ranks) == 0 and size > parts * ranks]
    if fits:
        yield f"trainer.accumulate={fits[0]} (now {accumulate}; batch norm then sees {size // fits[0]} images at once)"
    elif size > 2 * ranks:
        yield f"recipe.batch_size={max(2 * ranks, size // 2 // ranks * ranks)} (now {size})"
    stride, crop = config["output_stride"], recipe["crop_size"]
    smaller = max(1, int(crop * 0.75) // stride) * stride + 1
    if 17 <= smaller < crop:
        yield f"recipe.crop_size={smaller} (now {crop})"
