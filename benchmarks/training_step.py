"""Seconds and memory of a training step, as atrous-train runs it, against other libraries and plain PyTorch.

    python -m benchmarks.training_step --backbone resnet50 --size 513 --batch 2

A way is a network in a manner. "plain PyTorch" is what most projects write: the default memory format, precision and
allocator, float images that are ready before the clock starts, the network's logits at full size, `F.cross_entropy`,
`torch.optim.SGD`. "tuned PyTorch" is the same with channels last and, where it is in hardware, bf16. "as shipped" is
what a job of atrous-train does in a step: the settings of its threads and its allocator, channels last, the precision
of `recipe.precision=auto`, normalisation of bytes, the task's loss, optimiser and schedule.

Every peer's network is built with atrous too, layer by layer: against that twin it shows what a library makes of the
same work. Each measurement is a process of its own, and the ways take turns. Operations are three forward passes of
two per Multiply-Add of the convolutions.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial

from benchmarks.command import add_common_options, finish_each, positive, run
from benchmarks.figures import Figures, Measured
from benchmarks.networks import PAPER, PEERS, Network, networks_of
from benchmarks.peak import measured_peaks
from benchmarks.peers import PeerMissingError, versions
from benchmarks.section import Section
from benchmarks.step_goals import goals
from benchmarks.step_table import COLUMNS, rows
from benchmarks.steps import (
    ATROUS,
    CHECKPOINTED,
    FLOAT32,
    PLAIN,
    TUNED,
    Setting,
    build,
    environment_of,
    name_of,
    precision_of,
)
from benchmarks.turns import in_process, take_turns

from atrous.networks.complexity import multiply_adds

Way = tuple[str, str]  # (key of a network, manner)


def ways_of(networks: Mapping[str, Network], *, device: str) -> list[Way]:
    """What is measured of the networks that can be built; `float32` where it is not what is shipped anyway."""
    own = [ATROUS] if precision_of(ATROUS, device) == "32-true" else [ATROUS, FLOAT32]
    own.append(CHECKPOINTED)
    found = [(PAPER, manner) for manner in (*own, PLAIN)]
    for key, network in networks.items():
        if network.twin:
            found += [(key, PLAIN), (key, TUNED), *((network.twin, manner) for manner in own)]
    return found


def operations(networks: Mapping[str, Network], setting: Setting) -> tuple[dict[str, float], list[str]]:
    """Operations of a step by network, and why the others cannot be built here."""
    found: dict[str, float] = {}
    missing = []
    for key, network in networks.items():
        try:
            side = network.side(setting.size)
            found[key] = 3 * 2 * multiply_adds(build(key, setting), size=(side, side)).true * setting.batch
        except PeerMissingError as error:
            missing.append(f"{network.label} is left out: {error}")
    return found, missing


def available(networks: Mapping[str, Network], buildable: Sequence[str]) -> dict[str, Network]:
    """The networks that can be built, without the twins of those that cannot."""
    lost = {network.twin for key, network in networks.items() if network.twin and key not in buildable}
    return {key: network for key, network in networks.items() if key in buildable and key not in lost}


def measured_section(setting: Setting, *, repeats: int, peers: Sequence[str]) -> Section:
    """Let the ways of the paper's network and of the named peers and their twins take turns; lay out what they took."""
    networks = networks_of(setting.backbone)
    wanted = {PAPER, *peers, *(networks[key].twin for key in peers if key in networks)}
    per_step, notes = operations({key: network for key, network in networks.items() if key in wanted}, setting)
    networks = available(networks, list(per_step))
    ways = {
        f"{networks[key].label}, {manner}": (key, manner) for key, manner in ways_of(networks, device=setting.device)
    }

    def measure(name: str) -> Figures:
        key, manner = ways[name]
        request = setting.request(key, manner)
        return in_process("benchmarks.step_measurement", request, environment=environment_of(manner))

    peaks = measured_peaks(setting.device)
    turns = take_turns(list(ways), measure, repeats=repeats)
    by_way: Measured = {name_of(*ways[name]): figures for name, figures in turns.measured.items()}
    for key in networks:
        if networks[key].differs != "the paper's":
            notes.append(f"{networks[key].label}: {networks[key].differs}.")
    notes.append("Operations are those of direct convolutions, also where a 3x3 one is made by Winograd in fewer.")
    size, batch = setting.size, setting.batch
    return Section(
        key=f"training_step_{setting.backbone}_{setting.device}",
        title=f"Training step, {setting.backbone}, {size}x{size}, batch {batch}, {setting.device}",
        text=(
            "Each network in each manner is a process of its own, and they take turns. A peer's twin is the peer's "
            f"network built with atrous. Load average meanwhile: {turns.load}."
        ),
        columns=COLUMNS,
        rows=rows(by_way, ways, per_step, peaks, batch=batch),
        goals=goals(by_way, networks, per_step, peaks),
        notes=notes,
        died=turns.died,
        figures={
            "setting": asdict(setting),
            "operations_per_step": per_step,
            "convolution_peak": peaks,
            "peers": versions(),
            "measured": by_way,
        },
    )


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    backbones = ("resnet18", "resnet34", "resnet50", "resnet101", "xception65")
    parser.add_argument("--backbone", default="resnet50", choices=backbones, help="default: %(default)s")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: %(default)s")
    parser.add_argument("--size", type=positive, default=513, help="height and width of an image (%(default)s)")
    parser.add_argument("--batch", type=positive, default=2, help="images per step (%(default)s)")
    parser.add_argument("--steps", type=positive, help="measured steps per process (3, on a GPU 20)")
    parser.add_argument("--peers", nargs="+", default=PEERS, choices=PEERS, help="compare with these only (all)")
    add_common_options(parser)
    arguments = parser.parse_args()
    on_gpu = arguments.device == "cuda"
    setting = Setting(
        backbone=arguments.backbone,
        size=arguments.size,
        batch=arguments.batch,
        device=arguments.device,
        steps=arguments.steps or (20 if on_gpu else 3),
        warm_up=5 if on_gpu else 2,
    )
    measured = partial(measured_section, setting, repeats=arguments.repeats, peers=arguments.peers)
    finish_each([measured], arguments)


if __name__ == "__main__":
    run(main)
