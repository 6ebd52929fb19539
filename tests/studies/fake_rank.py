"""Stands in for a rank of atrous.training.job: rank 0 leaves the files of a run, the others only end.

FAKE_RANKS: how each ends, as JSON by rank: done, fail, kill or hang.
"""

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path


def main(folder: Path, protocols: list[str]) -> int:
    rank = os.environ["RANK"]
    said = [os.environ["WORLD_SIZE"], os.environ["MASTER_PORT"], str(os.getpid()), os.environ["ATROUS_MEETING"]]
    (folder / f"rank{rank}").write_text(" ".join(said))
    behaviours = json.loads(os.environ.get("FAKE_RANKS", "{}"))
    behaviour = behaviours.get(rank, "done")
    if behaviour == "hang":
        time.sleep(60)
    while len(list(folder.glob("rank[0-9]"))) < int(os.environ["WORLD_SIZE"]):
        time.sleep(0.05)  # as the ranks of a training wait for each other
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if rank == "0" and behaviour in ("done", "fail"):
        os.environ["FAKE_JOB"] = json.dumps({"*": behaviour})
        return int(importlib.import_module("fake_job").main(folder, protocols))
    while behaviour == behaviours.get("0") == "fail" and '"failed"' not in (folder / "status.json").read_text():
        time.sleep(0.05)  # what fails on every rank is told by the first
    return int(behaviour == "fail")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
