"""One run on two machines: two torchrun agents that meet on the loopback device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from .conftest import SMALL, confusions, runs, train


def _train_on_two_machines(*arguments: str, cwd: Path) -> str:
    """Run atrous-train under both agents to its end; what they said."""
    meeting = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"]
    agent += [f"--rdzv-endpoint=127.0.0.1:{meeting.port}", "--rdzv-conf=is_host=0", "--local-addr=127.0.0.1"]
    agent += ["-m", "atrous.commands.train"]
    agents = [
        subprocess.Popen(
            [*agent, *SMALL, "trainer.nodes=2", *arguments],
            cwd=cwd,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = "\n".join(one.communicate(timeout=600)[0] for one in agents)
    assert [one.returncode for one in agents] == [0, 0], said
    return said


@pytest.mark.exhaustive
def test_two_machines_train_one_run_to_the_bits_of_two_devices_on_one(tmp_path: Path) -> None:
    said = _train_on_two_machines("recipe.max_steps=4", "store=two", cwd=tmp_path)
    assert said.count("run: two/runs/") == 1, "only the first rank speaks"
    assert train(*SMALL, "recipe.max_steps=4", "trainer.devices=2", "store=one", cwd=tmp_path).returncode == 0
    two, one = runs(tmp_path / "two"), runs(tmp_path / "one")
    assert [run["status"]["state"] for run in two.values()] == ["done"]
    assert confusions(two) == confusions(one)
    assert two.keys() == one.keys(), "how many machines there are is no part of a run's identity"
    weights = [torch.load(next(tmp_path.glob(f"{store}/**/last.ckpt")), weights_only=True) for store in ("two", "one")]
    assert all(torch.equal(value, weights[1]["state_dict"][name]) for name, value in weights[0]["state_dict"].items())


@pytest.mark.exhaustive
def test_the_ranks_of_a_launch_meet_anew_for_the_run_behind_its_parent(tmp_path: Path) -> None:
    _train_on_two_machines("recipe.max_steps=2", "parent=['seed=5']", "store=two", cwd=tmp_path)
    states = [json.loads(path.read_text())["state"] for path in tmp_path.glob("two/runs/*/seed*/status.json")]
    assert states == ["done", "done"]


def test_a_run_for_two_machines_is_not_started_on_one(tmp_path: Path) -> None:
    ended = train(*SMALL, "trainer.nodes=2", cwd=tmp_path)
    assert ended.returncode == 2
    assert "trainer.nodes=2" in ended.stderr
    assert "srun --nodes=2" in ended.stderr
    assert "torchrun --nnodes=2" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_ranks_that_are_not_those_of_the_run_are_refused(tmp_path: Path) -> None:
    ranks = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"}
    listening = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    ended = train(*SMALL, cwd=tmp_path, **ranks, **listening)
    assert ended.returncode == 2
    assert "torchrun started 2 processes on 1 machines, but trainer.nodes=1 x trainer.devices=1 needs 1" in ended.stderr
    sweep = train("-m", *SMALL, "seed=0,1", cwd=tmp_path, **ranks, **listening)
    assert sweep.returncode == 2
    assert "-m was started 2 times by torchrun" in sweep.stderr
    assert list(tmp_path.iterdir()) == []
