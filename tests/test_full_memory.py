"""What the kernel's out-of-memory killer did is counted where this process's memory is, and told by keys that help."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from atrous import full_memory
from atrous.run_store import RunFolder

CONFIG: dict[str, Any] = {
    "recipe": {"batch_size": 16, "crop_size": 513, "precision": "32-true", "max_steps": 30},
    "trainer": {"accelerator": "cpu", "nodes": 1, "devices": 1, "accumulate": 1, "activation_checkpointing": "units"},
    "data": {"val_batch_size": 4, "num_workers": 3},
    "output_stride": 16,
}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("group", "counter"),
    [
        ("0::/job.slice/step_0\n", "sys/fs/cgroup/job.slice/step_0/memory.events"),
        ("9:name=systemd:/\n4:cpu,memory:/slurm/job_7\n0::/\n", "sys/fs/cgroup/memory/slurm/job_7/memory.oom_control"),
        ("4:memory:/docker/not-seen-from-inside\n", "sys/fs/cgroup/memory/memory.oom_control"),
        ("0::/\n", "proc/vmstat"),
        ("damaged? no, of another kind:::\n", "proc/vmstat"),
    ],
    ids=["version 2", "version 1", "container", "machine", "unknown"],
)
def test_kills_are_counted_in_the_control_group_and_else_on_the_machine(
    tmp_path: Path, group: str, counter: str
) -> None:
    _write(tmp_path / "proc/self/cgroup", group)
    _write(tmp_path / "proc/vmstat", "nr_free_pages 9\noom_kill 5\n")
    _write(tmp_path / counter, "low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert full_memory.kills(tmp_path) == 2


def test_a_machine_that_does_not_count_has_none(tmp_path: Path) -> None:
    assert full_memory.kills(tmp_path) == 0


@pytest.mark.parametrize(
    ("step", "accelerator", "keys", "others"),
    [
        (12, "auto", ("trainer.accumulate=2 (now 1", "data.num_workers=1 (now 3"), ("data.val_batch_size",)),
        (30, "cpu", ("data.val_batch_size=2 (now 4)", "data.num_workers=1 (now 3"), ("trainer.accumulate",)),
        (12, "gpu", ("data.num_workers=1 (now 3", "hydra.launcher.jobs"), ("trainer.accumulate", "recipe.")),
    ],
    ids=["training", "evaluation", "training on a GPU, whose memory it is not"],
)
def test_what_was_killed_is_told_by_the_keys_that_lower_it(
    tmp_path: Path, step: int, accelerator: str, keys: tuple[str, ...], others: tuple[str, ...]
) -> None:
    folder, trainer = RunFolder(tmp_path), {**CONFIG["trainer"], "accelerator": accelerator}
    _write(folder.config_file, yaml.safe_dump({**CONFIG, "trainer": trainer}))
    folder.set_status("running", step=step)
    said = full_memory.advice_after_kill(folder)
    assert "out of memory. Lower what is in memory at once: " in said
    assert all(key in said for key in keys), said
    assert not any(key in said for key in others), said


def test_kills_of_long_ago_explain_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now, count = 100.0, 3
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(full_memory, "kills", lambda: count)
    watch = full_memory.Watch(seconds=60)
    count = 4
    assert watch.has_killed()
    for now in range(101, 160):  # noqa: B007  # read by the clock
        watch.look()
    assert watch.has_killed()
    for now in range(160, 163):  # noqa: B007
        watch.look()
    assert not watch.has_killed()


def test_a_damaged_folder_hides_the_advice_only(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text("{")
    assert full_memory.advice_after_kill(RunFolder(tmp_path)).endswith("was out of memory")
