"""What Lightning and a sweep cost beside the training itself.

    python -m benchmarks.overhead

The Trainer's step is that of `benchmarks.trainer_step`. A sweep's overhead is all its time but that of the training
(its steps and validations, not the evaluation at its end), jobs one at a time, by job.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.command import add_common_options, finish_each, positive, run
from benchmarks.figures import Spread
from benchmarks.jobs import atrous_train
from benchmarks.section import Goal, Section
from benchmarks.trainer_step import step_section

from atrous.run_store import RunFolder, all_runs

_TABLE = "deeplabv3/table1"
_SECONDS_PER_JOB = 5.0


def accounts(run: RunFolder) -> dict[str, float]:
    """Seconds of a job: from the writing of its config to its end, its training with validations, its evaluation."""
    results, status = run.results(), run.status()
    evaluation = sum(float(entry["seconds"]) for entry in results["evaluations"].values())
    return {
        "job": float(status["updated"]) - run.config_file.stat().st_mtime,
        "training": float(results["training"]["seconds"]),
        "evaluation": evaluation,
    }


def sweep_section(*, repeats: int) -> Section:
    """What the jobs of a small sweep cost beyond their training."""
    overheads, rows, jobs = [], [], []
    for turn in range(repeats):
        with tempfile.TemporaryDirectory(prefix="atrous-sweep-") as name:
            folder = Path(name)
            arguments = ["-m", f"+experiment={_TABLE}", "scale=smoke", f"store={folder}", "hydra.launcher.jobs=1"]
            wall = atrous_train(arguments, folder=folder)
            jobs = [accounts(run) for run in all_runs(folder)]
        training, evaluation, whole = (sum(job[key] for job in jobs) for key in ("training", "evaluation", "job"))
        overheads.append((wall - training) / len(jobs))
        cells = (wall, training, evaluation, whole - training - evaluation, wall - whole)
        rows.append([f"turn {turn + 1}", str(len(jobs)), *(f"{seconds:.1f}" for seconds in cells)])
    what = "seconds per job beyond its training"
    return Section(
        key="sweep_overhead",
        title="A sweep's overhead per job",
        text=f"`atrous-train -m +experiment={_TABLE} scale=smoke`, a job at a time; seconds of all jobs together.",
        columns=("", "jobs", "whole", "training", "evaluation", "rest of the jobs", "sweep itself"),
        rows=rows,
        goals=[Goal(what, Spread.of(overheads), at_most=_SECONDS_PER_JOB, unit=" s")],
        notes=["The rest of a job is its start (imports, building, checks) and its end (checkpoints, results)."],
        figures={"jobs": jobs, "overheads": overheads},
    )


def main() -> None:
    """Run the benchmark and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=positive, default=30, help="steps of a run (%(default)s)")
    add_common_options(parser)
    arguments = parser.parse_args()
    sections = (
        partial(step_section, steps=arguments.steps, repeats=arguments.repeats),
        partial(sweep_section, repeats=max(1, arguments.repeats - 1)),
    )
    finish_each(sections, arguments)


if __name__ == "__main__":
    run(main)
