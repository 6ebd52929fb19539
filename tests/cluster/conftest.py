"""What the tests on real clusters share: the smallest sweeps, and what a store has to hold after them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..conftest import SMALL_RUN

TABLE = ("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os8,os16]", "trainer.accelerator=cpu")
# A network that trains in seconds, with two images for each of two ranks.
SMALL = (*SMALL_RUN, "model.dropout=0", "data.train.length=8", "data.val.length=4", "trainer.accelerator=cpu")
COMMAND = (sys.executable, "-m", "atrous.commands.train")


def train(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run atrous-train to its end."""
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "160", **environment}
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env=variables, capture_output=True, text=True, timeout=1200, check=False
    )


def runs(store: Path) -> dict[str, dict[str, Any]]:
    """Every run of a store by its row (or its name): status, results and what identifies it."""
    found = {}
    for path in sorted(store.glob("runs/*/seed*/run.json")):
        facts = json.loads(path.read_text())
        files = {name: path.parent / f"{name}.json" for name in ("status", "results")}
        read = {name: json.loads(file.read_text()) if file.is_file() else {} for name, file in files.items()}
        found[facts["row"] or facts["name"]] = {**read, "facts": facts, "folder": path.parent}
    return found


def confusions(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What was counted, by run."""
    return {row: run["results"]["evaluations"]["single"]["confusion"] for row, run in found.items()}
