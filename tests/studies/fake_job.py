"""Stands in for atrous.training.job: leaves the files of a run in milliseconds, without importing atrous or torch.

FAKE_JOB: how it ends, as JSON by row or `*`: done, fail, kill, vanish, hang or stubborn. FAKE_LOG: a file to which it
appends "start|end TIME PID ROW CUDA_VISIBLE_DEVICES".
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import yaml


def main(folder: Path, protocols: list[str]) -> int:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    row = str(config.get("row"))
    _log("start", row)
    behaviours = json.loads(os.environ.get("FAKE_JOB", "{}"))
    behaviour = behaviours.get(row, behaviours.get("*", "done"))
    steps = config["recipe"]["max_steps"]
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour in ("hang", "stubborn"):
        _write(folder / "status.json", {"format": 1, "state": "running", "step": 1})
        time.sleep(60)
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "vanish":
        return 0
    time.sleep(0.1)
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
    _log("end", row)
    return 0


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value))


def _log(event: str, row: str) -> None:
    if "FAKE_LOG" in os.environ:
        with Path(os.environ["FAKE_LOG"]).open("a") as log:
            log.write(f"{event} {time.time()} {os.getpid()} {row} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
