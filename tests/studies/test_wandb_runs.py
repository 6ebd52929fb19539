"""Tables logged with W&B offline: one run per training, read back from the files that W&B's own client wrote."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

from atrous.boards.log import read_records


def _logged(file: Path) -> tuple[Any, dict[str, Any]]:
    """The run and its final summary, by W&B's message types."""
    messages: Any = wandb_internal_pb2
    run, summary = None, {}
    for content in read_records(file):
        record = messages.Record.FromString(content)
        if record.WhichOneof("record_type") == "run":
            run = record.run
        elif record.WhichOneof("record_type") == "summary":
            for item in record.summary.update:
                summary["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    return run, summary


@pytest.mark.exhaustive  # tests/commands/test_secrets.py has a training log with W&B too
def test_jobs_give_as_many_runs_with_their_names_groups_configs_and_summaries(tmp_path: Path) -> None:
    names = ["os8", "os16", "os32", "os64", "os128", "os256"]
    table = ["+experiment=deeplabv3/table1", "scale=smoke", "logger=wandb"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, "-m", "atrous.commands.train", "-m", *table, f"store={tmp_path}", "logger.wandb.project=lab"],
        capture_output=True,
        text=True,
        env={**clean, "CUDA_VISIBLE_DEVICES": "", "NETRC": str(tmp_path / "no-netrc")},
        timeout=560,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted(tmp_path.rglob("*.wandb"))
    assert len(files) == len(names)
    logged = {run.display_name: (run, summary, file) for file in files for run, summary in [_logged(file)]}
    assert sorted(logged) == sorted(f"{name}-seed0" for name in names)
    for name in names:
        run, summary, file = logged[f"{name}-seed0"]
        folder = file.parents[2]
        facts, results = (json.loads((folder / f"{kind}.json").read_text()) for kind in ("run", "results"))
        assert (run.run_id, run.project, run.run_group, run.job_type) == (
            facts["key"],
            "lab",
            "deeplabv3/table1",
            "train",
        )
        assert list(run.tags) == [name, "seed0"]
        assert run.notes == facts["command"]
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        assert config["output_stride"] == int(name.removeprefix("os"))
        assert config["recipe"]["optimizer"]["lr"] > 0
        assert summary["single/miou"] == results["evaluations"]["single"]["miou"]
        assert summary["parameters"] == results["model"]["parameters"]
        assert summary["multiply_adds"] == results["model"]["multiply_adds"]
        assert summary["images_per_second"] == results["training"]["images_per_second"]
        assert summary["trainer/global_step"] == 2
