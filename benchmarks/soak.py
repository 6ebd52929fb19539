"""Memory and open files of a long training: those of all its processes over 200 epochs with evaluation.

    python -m benchmarks.soak --output docs/benchmarks

Trains a tiny network on 16 procedural scenes with evaluation after every 5 epochs, looks at the whole process tree
through /proc while it runs, and writes soak.png, soak.md and soak.csv. Exits with 1 where something grows after the
first quarter: the last quarter's mean may exceed the second's by 2% and 4 MiB, and no file handle.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import fmean, median

from benchmarks.command import positive, writable_folder
from benchmarks.loader_memory import resident_mib

from atrous.processes import bound_command

_TRAINING_IMAGES, _BATCH = 16, 8
_STEPS_PER_EPOCH = _TRAINING_IMAGES // _BATCH
_PROCESSES = 4  # of the training: command, job, its loader and that of the evaluation
_FEWEST = 8  # looks at it, two for each quarter
_TOLERANCE, _TOLERANCE_MIB = 1.02, 4.0
_RUN = (
    "model=deeplabv3",
    "model.aspp_channels=8",
    "backbone=tiny",
    "backbone.units=[1,1,1,1]",
    "backbone.width=4",
    f"recipe.batch_size={_BATCH}",
    "recipe.crop_size=65",
    "recipe.precision=32-true",
    f"data.train.length={_TRAINING_IMAGES}",
    "data.train.size=65",
    "data.val.length=4",
    "data.val.size=65",
    "data.num_workers=1",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    f"trainer.val_every={5 * _STEPS_PER_EPOCH}",
    f"trainer.checkpoint_every={10 * _STEPS_PER_EPOCH}",
)


@dataclass(frozen=True)
class Sample:
    """The process tree at one moment: seconds since the start, processes, their memory in MiB, open file handles."""

    seconds: float
    processes: int
    memory_mib: float
    files: int


def look(leader: int, began: float) -> Sample:
    """Add up a process and all that descend from it."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
    tree, fresh = {leader}, {leader}
    while fresh:
        fresh = {process for process, parent in parents.items() if parent in fresh} - tree
        tree |= fresh
    memory, files, count = 0.0, 0, 0
    for process in tree:
        try:
            memory += resident_mib(process)
            files += len(list(Path(f"/proc/{process}/fd").iterdir()))
            count += 1
        except OSError:
            continue
    return Sample(time.monotonic() - began, count, memory, files)


def watch(epochs: int, folder: Path, *, every: float) -> list[Sample]:
    """Train, and look every so many seconds."""
    command = [sys.executable, "-m", "atrous.commands.train", *_RUN, f"recipe.max_steps={epochs * _STEPS_PER_EPOCH}"]
    began, samples = time.monotonic(), []
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(bound_command(*command, f"store={folder}"), stdout=log, stderr=log)
        while process.poll() is None:
            samples.append(look(process.pid, began))
            time.sleep(every)
    if process.returncode != 0:
        raise SystemExit((folder / "log.txt").read_text()[-3000:])
    # The start and the end, in which processes come and go, are no part of the training.
    steady = [sample for sample in samples if sample.processes == _PROCESSES]
    if len(steady) < _FEWEST:
        raise SystemExit(f"{len(steady)} looks at {epochs} epochs tell nothing: ask for more --epochs")
    return steady


def problems(samples: Sequence[Sample]) -> list[str]:
    """What has grown after the first quarter."""
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    before, after = (fmean(sample.memory_mib for sample in part) for part in (second, last))
    found = []
    if after > _TOLERANCE * before + _TOLERANCE_MIB:
        found.append(f"memory grew from {before:.1f} to {after:.1f} MiB")
    handles = [int(median(sample.files for sample in part)) for part in (second, last)]
    if handles[1] > handles[0]:
        found.append(f"open files grew from {handles[0]} to {handles[1]}")
    return found


def write(samples: Sequence[Sample], output: Path, *, epochs: int, found: Sequence[str]) -> None:
    """The curve, its numbers, and what they say."""
    import matplotlib.pyplot as plt

    output.mkdir(parents=True, exist_ok=True)
    with (output / "soak.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["seconds", "processes", "memory_mib", "files"])
        writer.writerows([f"{value:.6g}" for value in astuple(sample)] for sample in samples)
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 5), sharex=True, constrained_layout=True)
    seconds = [sample.seconds for sample in samples]
    memory = [sample.memory_mib for sample in samples]
    above.plot(seconds, memory)
    above.set(
        ylabel="memory of all processes, MiB", ylim=(0, 1.2 * max(memory)), title=f"{epochs} epochs with evaluation"
    )
    below.plot(seconds, [sample.files for sample in samples], color="tab:orange")
    below.set(ylabel="open file handles", ylim=(0, None), xlabel="seconds")
    figure.savefig(output / "soak.png", dpi=110)
    quarter = len(samples) // 4
    parts = [samples[index * quarter : (index + 1) * quarter] for index in range(4)]
    rows = "\n".join(
        f"| {number} | {fmean(memory):.1f} | {max(memory):.1f} | {median(sample.files for sample in part):.0f} |"
        for number, part in enumerate(parts, 1)
        for memory in [[sample.memory_mib for sample in part]]
    )
    verdict = "; ".join(found) or "Nothing grows after the first quarter."
    (output / "soak.md").write_text(
        f"# A long training\n\n`python -m benchmarks.soak --epochs {epochs}`: {samples[0].processes} processes "
        f"(command, training, loaders), {seconds[-1]:.0f} seconds on the CPU, evaluation after every 5 epochs, "
        f"a checkpoint after every 10. Memory is what the processes own and share (RssAnon + RssShmem).\n\n"
        "![Memory and open files](soak.png)\n\n"
        "| quarter | mean memory, MiB | largest | open files (median) |\n| --- | --- | --- | --- |\n"
        f"{rows}\n\n{verdict}\n"
    )


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=positive, default=200)
    parser.add_argument("--every", type=float, default=0.5, help="seconds between two looks")
    parser.add_argument("--output", type=writable_folder, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = watch(arguments.epochs, Path(folder), every=arguments.every)
    found = problems(samples)
    write(samples, arguments.output, epochs=arguments.epochs, found=found)
    print("\n".join(found) or f"flat: {samples[-1].memory_mib:.1f} MiB, {samples[-1].files} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
