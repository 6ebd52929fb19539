"""How the ranks of a training share its gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from torch.distributed.constants import default_pg_timeout


class EveryPartReduced(DDPStrategy):
    """DDP that reduces the gradient of every part of an accumulated step, not of the last one alone.

    DDP's static graph cannot leave a reduction out. What was accumulated before is equal on all ranks and in the same
    memory as the new part, so that the average of both is the old sum plus the average of the new part.
    """

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Block nothing."""
        yield


def build_strategy(ranks: int, device: str, *, patience: float) -> Strategy:
    """One device by itself, or DDP with one process per device.

    Args:
        ranks: devices on all nodes.
        device: cpu or cuda.
        patience: seconds after which the watchdog names a rank that hangs; 0 for none.
    """
    if ranks == 1:
        return SingleDeviceStrategy(device=torch.device(device, 0) if device == "cuda" else torch.device("cpu"))
    backend = "nccl" if device == "cuda" else "gloo"
    # Buffers are equal on all ranks already, and shards of val may differ in length: nothing is broadcast in forward.
    return EveryPartReduced(
        process_group_backend=backend,
        timeout=waiting_time(patience),
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        static_graph=True,
    )


def waiting_time(seconds: float) -> timedelta:
    """Who waits for a rank that hangs is patient until the watchdog has named the one that hangs."""
    return timedelta(seconds=1.5 * seconds) if seconds > 0 else default_pg_timeout
