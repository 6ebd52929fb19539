"""Seconds and memory of one way of a training step, measured in this process.

python -m benchmarks.step_measurement --measure '{"network": "paper", "manner": "as shipped", "size": 129}'
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from benchmarks.figures import Figures
from benchmarks.networks import networks_of
from benchmarks.steps import (
    MANNERS_OF_ATROUS,
    TUNED,
    Setting,
    atrous_step,
    batch_of,
    build,
    checkpointing_of,
    plain_step,
    precision_of,
)
from torch.distributed.elastic.multiprocessing.errors import record

from atrous.process_memory import peak_mib
from atrous.training import machine


def measure(request: dict[str, Any]) -> Figures:
    """Time the steps of one network in one manner in this process, after some that let memory settle.

    Args:
        request: as `Setting.request` makes it. With RANK set, the ranks share the batch.
    """
    network, manner = request.pop("network"), request.pop("manner")
    setting, ranks = Setting(**request), int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1:
        dist.init_process_group("nccl" if setting.device == "cuda" else "gloo")
    if manner in MANNERS_OF_ATROUS:
        if setting.device == "cpu":
            machine.use_allocator("auto", checkpointing_of(manner))
            machine.use_kernels("auto")
        machine.use_tf32(False)  # as `trainer.tf32` is; the peers keep PyTorch's own setting
    torch.backends.cudnn.benchmark = True  # as the Trainer asks for it, and for the peers alike
    before = _peak_mib("cpu")
    model = build(network, setting).to(setting.device).train()
    side = networks_of(setting.backbone)[network].side(setting.size)
    batch = batch_of(setting, side, images=setting.batch // ranks)
    if manner in MANNERS_OF_ATROUS:
        step = atrous_step(model, batch, setting, manner=manner)
    else:
        step = plain_step(model, batch, setting, tuned=manner == TUNED)
    for _ in range(setting.warm_up):
        step()
    seconds, cpu_seconds = _timed(step, setting)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mib": _peak_mib(setting.device),
        "step_mib": _peak_mib(setting.device) - (before if setting.device == "cpu" else 0),
        "threads": torch.get_num_threads(),
        "precision": precision_of(manner, setting.device),
        "side": side,
    }


def _timed(step: Callable[[], None], setting: Setting) -> tuple[list[float], list[float]]:
    def wait() -> None:
        if setting.device == "cuda":
            torch.cuda.synchronize()

    seconds, cpu_seconds = [], []
    for _ in range(setting.steps):
        wait()
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        wait()
        seconds.append(time.perf_counter() - wall)
        cpu_seconds.append(time.process_time() - cpu)
    return seconds, cpu_seconds


def _peak_mib(device: str) -> int:
    """The largest memory of the process so far: resident on a CPU, allocated by PyTorch on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() >> 20
    return peak_mib()


def report(request: dict[str, Any]) -> None:
    """Measure and print the figures as JSON, on the first rank."""
    figures = measure(dict(request))
    if int(os.environ.get("RANK", "0")) == 0:
        print(json.dumps(figures), flush=True)
    if dist.is_initialized():
        dist.destroy_process_group()


@record  # torchrun says last with what a rank has failed
def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=json.loads, required=True, metavar="JSON")
    report(parser.parse_args().measure)


if __name__ == "__main__":
    main()
