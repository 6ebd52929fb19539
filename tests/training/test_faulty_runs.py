"""Real trainings in which a rank hangs, is killed, or computes nonsense; atrous-train is started as a user would."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import yaml

from ..conftest import SMALL_RUN

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="finds processes in /proc"),
]

FAULTY = Path(__file__).with_name("faulty.py")
SMALL = (
    *SMALL_RUN,
    "data.train.length=30",
    "data.val.length=4",
    "trainer.accelerator=cpu",
    "trainer.val_every=1000000",
)
TWO = ("trainer.devices=2", "recipe.max_steps=6", "trainer.checkpoint_every=2")


def _start(
    store: Path, *overrides: str, faults: tuple[dict[str, Any], ...] = (), under: tuple[str, ...] = ()
) -> "subprocess.Popen[str]":
    variables = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "FAULTS": json.dumps(faults),
        "FAULTS_LOG": f"{store}.faults",
    }
    command = [sys.executable, *under, str(FAULTY), "train", *SMALL, f"store={store}", *overrides]
    output = Path(f"{store}.txt").open("a")  # noqa: SIM115
    return subprocess.Popen(command, env=variables, stdout=output, stderr=output, text=True)


def _train(store: Path, *overrides: str, faults: tuple[dict[str, Any], ...] = ()) -> int:
    return _start(store, *overrides, faults=faults).wait(900)


def _run(store: Path) -> Path:
    (run,) = store.glob("runs/*/seed0")
    return run


def _status(store: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_run(store) / "status.json").read_text())
    return content


def _state(store: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    """Weights, statistics and momenta at the end, or of another checkpoint."""
    content = torch.load(_run(store) / "checkpoints" / name, weights_only=True)
    momenta = content["optimizer_states"][0]["state"].items()
    return {**content["state_dict"], **{f"momentum {key}": value["momentum_buffer"] for key, value in momenta}}


def _validations(store: Path) -> list[tuple[str, str]]:
    """Steps and scores."""
    with (_run(store) / "metrics.csv").open(newline="") as stream:
        return [(row["step"], row["val/miou"]) for row in csv.DictReader(stream) if row["val/miou"]]


def _is_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def _processes(store: Path) -> list[int]:
    """What works in a store: launchers, torchrun, ranks."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if str(store).encode() in (path / "cmdline").read_bytes() + (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue  # it has just ended
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("two") / "undisturbed"
    assert _train(store, *TWO) == 0, Path(f"{store}.txt").read_text()
    return store


def test_a_rank_that_hangs_is_ended_with_its_stack_and_the_run_with_its_reason(tmp_path: Path) -> None:
    store = tmp_path / "store"
    limits = ("trainer.timeout_seconds=8", "trainer.restarts=0")
    assert _train(store, *TWO, *limits, faults=({"kind": "hang", "step": 3, "rank": 1},)) == 1
    status = _status(store)
    assert status["state"] == "failed"
    assert "rank 1 showed no sign of life for 8 s (trainer.timeout_seconds) after step 2" in status["reason"]
    assert "in sleep_forever" in status["reason"]
    assert "in sleep_forever" in (_run(store) / "stack-rank1.txt").read_text()
    assert "sleep_forever" in Path(f"{store}.txt").read_text()
    assert _processes(store) == []


def test_a_rank_that_is_killed_costs_one_restart_and_no_bit(undisturbed: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    faults = ({"kind": "kill", "step": 4, "rank": 1, "times": 1},)
    process = _start(store, *TWO, faults=faults)
    struck = Path(f"{store}.faults") / "0"
    while process.poll() is None and not struck.exists():
        time.sleep(0.05)
    ranks, began = _processes(store), time.monotonic()
    while set(ranks) & set(_processes(store)) - {process.pid} and time.monotonic() < began + 120:
        time.sleep(0.1)
    assert time.monotonic() - began < 60, "the other rank ends within 30 s, and torchrun with it"
    assert process.wait(900) == 0
    assert _status(store)["restarts"] == 1
    assert "rank 1 was killed by SIGKILL" in _status(store)["restarted_after"]
    assert "at step 3: started again from the last checkpoint (restart 1 of 1)" in Path(f"{store}.txt").read_text()
    assert _is_equal(_state(store), _state(undisturbed))


@pytest.mark.parametrize("more", [(), ("trainer.devices=2",)], ids=["one process", "two ranks"])
def test_a_loaders_worker_that_is_killed_costs_one_restart(tmp_path: Path, more: tuple[str, ...]) -> None:
    store, few = tmp_path / "store", ("recipe.max_steps=6", "trainer.checkpoint_every=2", "data.num_workers=1", *more)
    assert _train(store, *few, faults=({"kind": "worker", "step": 4, "times": 1},)) == 0
    assert _status(store)["restarts"] == 1
    told = "is killed by signal: Killed, and the kernel tells of no full memory"
    assert told in _status(store)["restarted_after"]


def test_a_second_death_fails_the_run_with_its_reason(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert _train(store, *TWO, faults=({"kind": "kill", "step": 2, "rank": 1, "times": 2},)) == 1
    status = _status(store)
    assert status["state"] == "failed"
    assert "rank 1 was killed by SIGKILL; it was started again 1x before (trainer.restarts)" in status["reason"]


def test_agents_of_torchrun_start_the_ranks_of_a_killed_one_again_and_no_bit_is_lost(
    undisturbed: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    meeting = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    agent: tuple[str, ...] = ("-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=1")
    agent += ("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{meeting.port}", "--rdzv-conf=is_host=0")
    agent += ("--local-addr=127.0.0.1",)
    faults = ({"kind": "kill", "step": 4, "rank": 1, "times": 1},)
    machines = ("trainer.nodes=2", "trainer.devices=1", *TWO[1:])
    agents = [_start(store, *machines, faults=faults, under=agent) for _ in range(2)]
    assert [one.wait(900) for one in agents] == [0, 0], Path(f"{store}.txt").read_text()
    assert (Path(f"{store}.faults") / "0").exists(), "one was killed"
    assert _is_equal(_state(store), _state(undisturbed))


def test_two_ranks_leave_the_same_step_out_and_name_the_images_of_both(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert _train(store, *TWO, "trainer.on_nonfinite=skip", faults=({"kind": "nan", "step": 3, "rank": 1},)) == 0
    results = json.loads((_run(store) / "results.json").read_text())
    assert results["training"]["skipped_steps"] == 1
    assert all(value.isfinite().all() for value in _state(store).values())
    kept = [torch.load(_run(store) / "nonfinite" / f"step3-rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert kept[0]["parameters"] == kept[1]["parameters"] != []
    said = Path(f"{store}.txt").read_text()
    assert all(name in said for one in kept for name in one["ids"])


def test_a_truncated_last_checkpoint_costs_its_steps_and_no_bit(undisturbed: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert _train(store, *TWO, "trainer.stop_at_step=5") == 0
    last = _run(store) / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-2000])
    assert _train(store, *TWO) == 0
    said = Path(f"{store}.txt").read_text()
    assert "kept as last.ckpt.damaged-1: going on from previous.ckpt, step 4" in said
    assert _is_equal(_state(store), _state(undisturbed))


def test_full_memory_is_told_by_the_keys_that_help(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert _train(store, "recipe.max_steps=2", faults=({"kind": "memory", "step": 1},)) == 1
    assert "trainer.accumulate=2 (now 1" in _status(store)["reason"]


def test_sigterm_saves_and_ends_with_the_code_that_launchers_know(tmp_path: Path) -> None:
    store = tmp_path / "store"
    process = _start(store, "recipe.max_steps=5000")
    while not (found := list(store.glob("runs/*/seed0/status.json"))) or "loss" not in found[0].read_text():
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    assert process.wait(120) == 128 + signal.SIGTERM
    assert _status(store)["state"] == "stopped"
    step = torch.load(_run(store) / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert step == _status(store)["step"]


def test_ranks_whose_steps_are_long_save_behind_them_too(tmp_path: Path) -> None:
    store = tmp_path / "store"
    slow = tuple({"kind": "slow", "step": step} for step in (2, 3, 4))
    process = _start(store, *TWO, "trainer.checkpoint_every=100", faults=slow)
    while not (found := list(store.glob("runs/*/seed0/status.json"))) or '"step": 2' not in found[0].read_text():
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    assert process.wait(200) == 128 + signal.SIGTERM, Path(f"{store}.txt").read_text()
    assert _status(store)["state"] == "stopped"
    assert _status(store)["reason"] == "stopped at step 4"
    assert torch.load(_run(store) / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4


@dataclass
class Jobs:
    """A job that is started and killed again and again, as a fork of a process that has imported everything."""

    folder: Path
    server: "subprocess.Popen[str]"

    def start(self) -> int:
        assert self.server.stdin is not None
        self.server.stdin.write("\n")
        self.server.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """The exit code."""
        return self._answer()

    def _answer(self) -> int:
        assert self.server.stdout is not None
        return int(self.server.stdout.readline())

    def step(self) -> int:
        path = self.folder / "status.json"
        return int(json.loads(path.read_text()).get("step", 0)) if path.is_file() else 0

    def newest_checkpoint(self) -> int:
        """The newest step of all checkpoints; one that cannot be read fails the test."""
        paths = list((self.folder / "checkpoints").glob("*.ckpt"))
        return max((int(torch.load(path, weights_only=True)["global_step"]) for path in paths), default=0)


@pytest.fixture
def jobs_of(tmp_path: Path) -> Iterator[Callable[[str], Jobs]]:
    """Makes the same training of 300 steps in several folders; a validation takes as long as some steps."""
    steps = ("recipe.max_steps=300", "trainer.checkpoint_every=1", "trainer.val_every=4", "data.val.length=20")
    assert _train(tmp_path / "model", *steps, "trainer.stop_at_step=1") == 0
    model = _run(tmp_path / "model")
    config = yaml.safe_load((model / "config.yaml").read_text())
    config["trainer"]["stop_at_step"] = None
    made: list[Jobs] = []

    def make(name: str) -> Jobs:
        folder = tmp_path / name / "runs" / model.parent.name / "seed0"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "run.json").write_text((model / "run.json").read_text())
        command = [sys.executable, str(FAULTY), "fork", str(folder), "single"]
        with (tmp_path / f"{name}.txt").open("w") as log:
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log, "text": True}
            made.append(Jobs(folder, subprocess.Popen(command, **pipes)))
        return made[-1]

    yield make
    for jobs in made:
        jobs.server.communicate("")


def test_thirty_kills_at_random_moments_lose_no_checkpoint_and_no_bit(
    jobs_of: Callable[[str], Jobs], tmp_path: Path
) -> None:
    chance, reached = random.Random(int(os.environ.get("ATROUS_FAULT_SEED", "9"))), [0]
    jobs = jobs_of("killed")
    while len(reached) <= 30:
        process, before = jobs.start(), jobs.step()
        if chance.random() < 0.8:  # while it trains and saves; else while it starts
            while jobs.step() <= max(before, reached[-1]):
                time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.5))
        os.kill(process, signal.SIGKILL)
        assert jobs.wait() == -signal.SIGKILL, "300 steps are more than it can do between the kills"
        reached.append(jobs.newest_checkpoint())
        print(f"kill {len(reached) - 1}: step {reached[-1]}", flush=True)  # noqa: T201
    assert reached == sorted(reached), "no checkpoint is older than the one before"
    for each in (jobs, jobs_of("calm")):
        each.start()
        assert each.wait() == 0
    killed, calm = tmp_path / "killed", tmp_path / "calm"
    assert _is_equal(_state(killed), _state(calm))
    assert _validations(killed) == _validations(calm)
    assert [step for step, _ in _validations(calm)] == [str(step) for step in range(4, 301, 4)]
    names = ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert sorted(path.name for path in (jobs.folder / "checkpoints").iterdir()) == names
    assert _is_equal(_state(killed, "best.ckpt"), _state(calm, "best.ckpt"))
