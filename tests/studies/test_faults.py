"""Real trainings, killed with SIGKILL at any moment: the same command goes on, and the table is the same to the bit."""

import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="finds processes in /proc")

# Three rows with one process, three with two; every row of another network.
_TABLE = """# @package experiment
defaults: [/experiment_schema@_here_, _self_]
table: faults
paper: "no paper"
title: "six short trainings"
overrides: [model=deeplabv3_cascade, model.blocks=7, backbone=resnet50, data=voc]
rows:
  - {name: os8, overrides: [output_stride=8], columns: {output_stride: 8}, paper: {miou: 6.0}}
  - {name: os16, overrides: [output_stride=16, trainer.devices=2], columns: {output_stride: 16}, paper: {miou: 5.0}}
  - {name: os32, overrides: [output_stride=32], columns: {output_stride: 32}, paper: {miou: 4.0}}
  - {name: os64, overrides: [output_stride=64, trainer.devices=2], columns: {output_stride: 64}, paper: {miou: 3.0}}
  - {name: os128, overrides: [output_stride=128], columns: {output_stride: 128}, paper: {miou: 2.0}}
  - {name: os256, overrides: [output_stride=256, trainer.devices=2], columns: {output_stride: 256}, paper: {miou: 1.0}}
"""


_SCALE = """defaults: [/scale_schema@_here_, smoke, _self_]
name: faults
label: "not a measurement: {steps} steps"
overrides: [recipe.max_steps={steps}, recipe.batch_size=4, data.train.length=8, data.val.length=4,
  data.val_batch_size=2, data.num_workers={workers}, trainer.threads=1, trainer.checkpoint_every=2, trainer.log_every=1]
"""


@dataclass
class Study:
    """The sweep of the table above in a folder of its own, as a command that can be started again and again."""

    folder: Path
    steps: int
    workers: int = 0
    rows: str = "null"
    log: list[str] = field(default_factory=list)
    launchers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(self) -> "subprocess.Popen[bytes]":
        conf = self.folder / "conf"
        for name, text in (("experiment", _TABLE), ("scale", _SCALE.format(steps=self.steps, workers=self.workers))):
            (conf / name).mkdir(parents=True, exist_ok=True)
            (conf / name / "faults.yaml").write_text(text)
        command = [sys.executable, "-m", "atrous.commands.train", "--config-dir", str(conf), "-m"]
        command += ["+experiment=faults", "scale=faults", f"rows={self.rows}", "hydra.launcher.jobs=2"]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        with (self.folder / "output.txt").open("ab") as output:
            process = subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=output, env=environment)
        self.launchers.append(process)
        return process

    def finish(self) -> int:
        return self.start().wait(1800)

    @property
    def store(self) -> Path:
        return self.folder / "outputs"

    def runs(self) -> dict[str, Path]:
        """The folders of the runs by row."""
        found = {}
        for path in self.store.glob("runs/*/seed0/run.json"):
            found[str(json.loads(path.read_text())["row"])] = path.parent
        return found

    def states(self) -> dict[str, str]:
        return {row: self.status(folder)["state"] for row, folder in self.runs().items()}

    @staticmethod
    def status(folder: Path) -> dict[str, str]:
        path = folder / "status.json"
        content: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {"state": "missing"}
        return content

    def processes(self) -> list[int]:
        """Every process that works on a run here: leaders, torchrun's ranks, loaders; each names the folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                is_here = (path / "cwd").readlink() == self.folder.resolve()
                if is_here and b"outputs/runs/" in (path / "environ").read_bytes():
                    found.append(int(path.name))
            except OSError:
                continue  # it has just ended
        return found

    def table(self) -> list[dict[str, str]]:
        """The report without the one column that a clock writes."""
        (path,) = self.store.glob("reports/**/table.csv")
        rows = list(csv.DictReader(path.read_text().splitlines()))
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]

    def weights(self) -> dict[str, str]:
        """A hash of every parameter and buffer by row."""
        found = {}
        for row, folder in self.runs().items():
            content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
            digest = hashlib.sha256()
            for name, value in sorted(content["state_dict"].items()):
                digest.update(name.encode() + value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
            found[row] = f"{content['global_step']} {digest.hexdigest()}"
        return found


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Callable[..., Study]]:
    """Makes studies, of which no process outlives the test."""
    made: list[Study] = []

    def make(name: str, **settings: Any) -> Study:
        made.append(Study(tmp_path / name, **settings))
        return made[-1]

    yield make
    for each in made:
        for process in [*(launcher.pid for launcher in each.launchers if launcher.poll() is None), *each.processes()]:
            _kill(process)


def _wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain until {what}"
        time.sleep(0.1)


def _left(study: Study) -> str:
    """What is still there: id, name and parent of each process."""
    stats = [Path(f"/proc/{process}/stat").read_text().split()[:4] for process in study.processes()]
    return ", ".join(f"{number} {name} of {parent}" for number, name, _, parent in stats)


def _wait_until_none_is_left(study: Study, what: str) -> None:
    try:
        _wait_until(lambda: not study.processes(), 60, what)
    except AssertionError:
        raise AssertionError(f"{what}; left: {_left(study)}") from None


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def _strike(study: Study, kind: str, chance: random.Random, *, after: float) -> bool:
    """Start the sweep, kill something of it without warning, and see that nothing of it goes on unattended.

    Returns:
        Whether a job was running then.
    """
    launcher = study.start()
    _wait_until(lambda: bool(study.processes()) or launcher.poll() is not None, 300, "a job has started")
    time.sleep(after)
    jobs, states = study.processes(), study.states()
    if not jobs:
        launcher.wait(300)
        return False
    if kind == "rank":
        victim = chance.choice(jobs)
        _kill(victim)
        _wait_until(lambda: victim not in study.processes(), 10, "the rank is dead")
        time.sleep(2.0)
        launcher.terminate()  # as Ctrl-C does: what still runs saves where it is
    else:
        _kill(launcher.pid)
        for process in study.processes() if kind == "tree" else ():
            _kill(process)
    launcher.wait(90)
    _wait_until_none_is_left(study, f"no process is left after kill -9 of the {kind}")
    study.log.append(f"{kind} after {after:.1f} s, {len(jobs)} processes: {states} -> {study.states()}")
    print(study.log[-1], flush=True)  # noqa: T201
    return True


@pytest.mark.exhaustive
def test_a_killed_launcher_takes_its_ranks_along_and_the_same_command_goes_on(study: Callable[..., Study]) -> None:
    killed, undisturbed = (study(name, steps=12, rows="[os256]") for name in ("killed", "undisturbed"))
    launcher, other = killed.start(), undisturbed.start()
    _wait_until(lambda: any(int(killed.status(f).get("step", 0)) for f in killed.runs().values()), 300, "it trains")
    assert len(killed.processes()) >= 3, "torchrun and its two ranks"
    _kill(launcher.pid)
    launcher.wait()
    _wait_until_none_is_left(killed, "the ranks have ended with the launcher")
    assert killed.finish() == 0
    assert other.wait(300) == 0
    assert killed.states() == {"os256": "done"}
    assert killed.weights() == undisturbed.weights()
    assert killed.table() == undisturbed.table()


@pytest.mark.exhaustive
def test_a_table_survives_twenty_kills_a_failure_and_a_full_disk(study: Callable[..., Study]) -> None:
    undisturbed, killed = (study(name, steps=40, workers=1) for name in ("undisturbed", "killed"))
    began = time.monotonic()
    assert undisturbed.finish() == 0
    half_a_job = (time.monotonic() - began) / 6  # six jobs, two at a time
    assert set(undisturbed.states().values()) == {"done"}
    chance = random.Random(int(os.environ.get("ATROUS_FAULT_SEED", "6")))
    kills = 0
    while kills < 20:
        kind, after = chance.choice(["rank", "launcher", "tree"]), chance.uniform(0, half_a_job)
        kills += _strike(killed, kind, chance, after=after)
        if set(killed.states().values()) == {"done"} and len(killed.states()) == 6:
            _forget(killed, chance.choice(sorted(killed.runs())))
    _fail_one_and_fill_the_disk_of_another(
        killed, places={row: path.parts[-2] for row, path in undisturbed.runs().items()}
    )
    assert killed.finish() == 0
    assert set(killed.states().values()) == {"done"}
    assert killed.weights() == undisturbed.weights()
    assert killed.table() == undisturbed.table()
    assert killed.finish() == 0, "once more, and nothing is trained"


def _forget(study: Study, row: str) -> None:
    subprocess.run(["rm", "-r", str(study.runs()[row])], check=True)
    study.log.append(f"everything was done: {row} begins anew")


def _fail_one_and_fill_the_disk_of_another(study: Study, *, places: dict[str, str]) -> None:
    """One training raises and one finds no space for its checkpoint; the other four end, and nothing is lost.

    Only root can mount the small disk; without, just the one that raises fails.
    """
    raises, full = (study.store / "runs" / places[row] / "seed0" for row in ("os16", "os32"))
    subprocess.run(["rm", "-rf", str(raises), str(full)], check=True)
    (raises / "metrics.csv").mkdir(parents=True)
    (full / "checkpoints").mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(full / "checkpoints")]
    is_small = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    expected = {**dict.fromkeys(places, "done"), "os16": "failed", **({"os32": "failed"} if is_small else {})}
    try:
        assert study.finish() == 1
        assert study.states() == expected
        assert "metrics.csv" in study.status(raises)["reason"]
        if is_small:
            assert f"no space left in {full.relative_to(study.folder)}" in study.status(full)["reason"]
            assert "last.ckpt needs" in study.status(full)["reason"]
    finally:
        if is_small:
            subprocess.run(["umount", str(full / "checkpoints")], check=True)
    (raises / "metrics.csv").rmdir()
