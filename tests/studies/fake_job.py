"""Stands in for atrous.training.job: leaves the files of a run in milliseconds, without importing atrous or torch.

FAKE_JOB: how it ends, as JSON by row or `*`: done, fail, kill, kill_once (only the first
time), removed (it is killed, and its folder is gone), vanish, hang, stubborn, late (it is killed after its
result was written), or orphan (it is killed, and a stubborn child in a session of its own is left). FAKE_LOG: a file to
which it appends
"start|end|clash TIME PID ROW CUDA_VISIBLE_DEVICES"; a clash is a device that another living job has.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml


def main(folder: Path, protocols: list[str]) -> int:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    row = str(config.get("row"))
    devices = _occupy(row)
    _log("start", row)
    behaviours = json.loads(os.environ.get("FAKE_JOB", "{}"))
    behaviour = behaviours.get(row, behaviours.get("*", "done"))
    steps = config["recipe"]["max_steps"]
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour in ("hang", "stubborn"):
        _write(folder / "status.json", {"format": 1, "state": "running", "step": 1})
        time.sleep(60)
    if behaviour == "orphan":
        deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
        child = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        (folder / "orphan").write_text(str(child.pid))
    if behaviour == "kill_once" and not (folder / "killed").exists():
        (folder / "killed").touch()
        behaviour = "kill"
    if behaviour == "removed":
        shutil.rmtree(folder)
    if behaviour in ("kill", "orphan", "removed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "vanish":
        return 0
    time.sleep(0.1)
    stop = config.get("trainer", {}).get("stop_at_step")
    if behaviour == "done" and stop is not None and stop < steps:
        _write(folder / "status.json", {"format": 1, "state": "stopped", "step": stop, "reason": f"at step {stop}"})
        return 0
    print(f"trained {row}")  # noqa: T201
    if behaviour == "fail":
        _write(
            folder / "status.json", {"format": 1, "state": "failed", "reason": "the loss is nan at step 1", "step": 1}
        )
        return 1
    score = config["output_stride"] / 1000 + config["seed"] / 100
    earlier = json.loads((folder / "results.json").read_text()) if (folder / "results.json").is_file() else {}
    entries = earlier.get("evaluations", {}) | {
        name: {"miou": score, "pixel_accuracy": 0.5, "images": 4, "pixels": 16} for name in protocols
    }
    _write(
        folder / "results.json",
        {
            "format": 1,
            "evaluations": entries,
            "model": {"parameters": 2_000_000, "multiply_adds": 3_000_000_000, "size": [129, 129]},
            "training": {"seconds": 61.0},
        },
    )
    _write(folder / "status.json", {"format": 1, "state": "done", "step": steps})
    if behaviour == "late":
        os.kill(os.getpid(), signal.SIGKILL)
    _log("end", row)
    for device in devices:
        os.close(device)
    return 0


def _occupy(row: str) -> list[int]:
    """A lock per device, which the kernel releases when this process ends, however that comes."""
    if "FAKE_LOG" not in os.environ or not os.environ.get("CUDA_VISIBLE_DEVICES"):
        return []
    taken = []
    for device in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
        taken.append(os.open(f"{os.environ['FAKE_LOG']}.device-{device}", os.O_CREAT | os.O_RDWR))
        try:
            fcntl.flock(taken[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log("clash", row)
    return taken


def _write(path: Path, value: dict[str, Any]) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(value))
    beside.replace(path)


def _log(event: str, row: str) -> None:
    if "FAKE_LOG" in os.environ:
        with Path(os.environ["FAKE_LOG"]).open("a") as log:
            log.write(f"{event} {time.time()} {os.getpid()} {row} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
