"""How the ranks of a training meet, and share its gradients."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from torch.distributed.constants import default_pg_timeout

from atrous.errors import AtrousError
from atrous.exit_codes import FAILED

# At least, for which ranks wait for one that is still on its way: imports alone may take a minute on a busy machine.
_ARRIVAL = timedelta(seconds=300)


class MissingRanksError(AtrousError):
    """Ranks that have not come to begin a training."""

    exit_code = FAILED


class EveryPartReduced(DDPStrategy):
    """DDP that reduces the gradient of every part of an accumulated step, not of the last one alone.

    DDP's static graph cannot leave a reduction out. What was accumulated before is equal on all ranks and in the same
    memory as the new part, so that the average of both is the old sum plus the average of the new part.

    Args:
        meeting: a name that all ranks of a training have in common, and neither another training of theirs has nor
            this one when it is started again. The store of torchrun's agents outlives a training: one that comes after
            its parent, or after a rank was killed, would find the addresses of processes there that are gone.
        options: as for DDPStrategy; process_group_backend and timeout are given.
    """

    def __init__(self, *, meeting: str, **options: Any) -> None:
        super().__init__(**options)
        self._meeting, self._patience = meeting, options["timeout"]

    def setup_distributed(self) -> None:
        """Meet the other ranks, as the environment says, under a name; Lightning takes the group that is there.

        Raises:
            MissingRanksError: not all of them have come.
        """
        if not dist.is_initialized():
            backend, device = self.process_group_backend, self.root_device
            arrival = max(self._patience, _ARRIVAL)
            meetings = dist.rendezvous("env://", timeout=arrival)  # type: ignore[attr-defined]
            store, rank, world_size = next(meetings)
            own_keys = dist.PrefixStore(self._meeting, store)  # type: ignore[attr-defined]
            _wait_for_all(own_keys, rank, world_size, arrival)
            store.set_timeout(self._patience)
            dist.init_process_group(
                backend,
                store=own_keys,
                rank=rank,
                world_size=world_size,
                timeout=self._patience,
                device_id=device if device.type == "cuda" else None,
            )
            if backend == "nccl":  # as Lightning does: PyTorch warns of one that is left
                atexit.register(_leave)
        super().setup_distributed()

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Block nothing."""
        yield


def _wait_for_all(store: Any, rank: int, world_size: int, patience: timedelta) -> None:
    keys = {other: f"rank {other} is here" for other in range(world_size)}
    store.set(keys[rank], "")
    try:
        store.wait(list(keys.values()), patience)
    except dist.DistStoreError:
        missing = [str(other) for other, key in keys.items() if not store.check([key])]
        who = f"rank {', '.join(missing)} of {world_size}"
        waited = f"rank {rank} has waited {patience.total_seconds():g} s for it"
        raise MissingRanksError(f"{who} has not come to begin the training: {waited}") from None


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def build_strategy(ranks: int, device: str, *, meeting: str, patience: float) -> Strategy:
    """One device by itself, or DDP with one process per device.

    Args:
        ranks: devices on all nodes.
        device: cpu or cuda.
        meeting: see `EveryPartReduced`.
        patience: seconds after which the watchdog names a rank that hangs; 0 for none.
    """
    if ranks == 1:
        return SingleDeviceStrategy(device=torch.device(device, 0) if device == "cuda" else torch.device("cpu"))
    backend = "nccl" if device == "cuda" else "gloo"
    # Buffers are equal on all ranks already, and shards of val may differ in length: nothing is broadcast in forward.
    return EveryPartReduced(
        meeting=meeting,
        process_group_backend=backend,
        timeout=waiting_time(patience),
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        static_graph=True,
    )


def waiting_time(seconds: float) -> timedelta:
    """Who waits for a rank that hangs is patient until the watchdog has named the one that hangs."""
    return timedelta(seconds=1.5 * seconds) if seconds > 0 else default_pg_timeout
