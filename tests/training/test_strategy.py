"""How ranks meet: who is slow is waited for, and who does not come is named."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.multiprocessing.spawn import start_processes

from atrous.training import strategy as strategy_module
from atrous.training.strategy import EveryPartReduced, MissingRanksError, build_strategy


def _meet(rank: int, world: int, port: int, patience: float) -> None:
    """Meet as a training does, in the store of the test."""
    place: dict[str, object] = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "GROUP_RANK": 0}
    place |= {"LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    place |= {"TORCHELASTIC_USE_AGENT_STORE": True}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in place.items():
            monkeypatch.setenv(name, str(value))
        strategy = build_strategy(world, "cpu", meeting="run", patience=patience)
        assert isinstance(strategy, EveryPartReduced)
        strategy.parallel_devices = [torch.device("cpu")] * world
        strategy.cluster_environment = TorchElasticEnvironment()
        strategy.setup_distributed()


def _meet_late(rank: int, port: int, folder: Path) -> None:
    time.sleep(4 * rank)
    _meet(rank, 2, port, patience=1)
    total = torch.ones(1)
    dist.all_reduce(total)
    (folder / str(rank)).write_text(str(total.item()))
    os._exit(0)  # gloo's threads may outlive the group


def test_a_rank_that_is_slow_to_start_is_waited_for_longer_than_one_that_hangs(tmp_path: Path) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    start_processes(_meet_late, args=(store.port, tmp_path), nprocs=2, start_method="fork")  # type: ignore[no-untyped-call]
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == ["2.0", "2.0"]


def test_ranks_that_do_not_come_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy_module, "_ARRIVAL", timedelta(seconds=0.5))
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    with pytest.raises(MissingRanksError, match=r"^rank 0, 2 of 3 has not come .*: rank 1 has waited 0\.5 s for it$"):
        _meet(1, 3, store.port, patience=0.1)
