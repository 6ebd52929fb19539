"""Ways that take turns: what a process that dies leaves of the others' figures and of its own."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from benchmarks.figures import Figures, Spread, ratio
from benchmarks.networks import networks_of
from benchmarks.section import Section
from benchmarks.steps import ATROUS, CHECKPOINTED, FLOAT32, PLAIN, TUNED, Setting
from benchmarks.turns import ROOT, BenchmarkError, in_process, take_turns

from benchmarks import command, evaluation, inference, inference_ways, training_step

SMALL = {"backbone": "resnet18", "size": 33, "images": 4, "batch": 2, "steps": 1, "threads": 1, "repeats": 2}


def _dying(victims: dict[str, int]) -> Callable[[str], Figures]:
    """Measures 1 s in the first turn, 2 s in the second, ...; `victims` are killed in the turn that is given."""
    taken: dict[str, int] = {}

    def measure(name: str) -> Figures:
        taken[name] = taken.get(name, 0) + 1
        if taken[name] >= victims.get(name, 99):
            raise BenchmarkError("it was killed by SIGKILL")
        precision = "bf16-mixed" if name.endswith((ATROUS, TUNED, CHECKPOINTED)) else "32-true"
        figures = {"seconds": [float(taken[name])], "cpu_seconds": [1.0], "peak_mib": 100, "step_mib": 50}
        return {**figures, "threads": 1, "pixels": 9, "precision": precision}

    return measure


def test_a_way_that_dies_keeps_its_turns_and_the_others_go_on() -> None:
    turns = take_turns(["a", "b", "c"], _dying({"a": 1, "b": 3}), repeats=3)
    assert {name: len(figures) for name, figures in turns.measured.items()} == {"b": 2, "c": 3}
    assert turns.died == [
        "a died in turn 1 of 3: it was killed by SIGKILL",
        "b died in turn 3 of 3: it was killed by SIGKILL",
    ]
    assert ratio(turns.measured, "b", "c") == Spread(1.0, 1.0, 1.0)  # of the turns that both took


def test_where_all_die_at_once_there_is_nothing_to_show() -> None:
    with pytest.raises(BenchmarkError, match=r"a died in turn 1 of 2: .* b died in turn 1"):
        take_turns(["a", "b"], _dying({"a": 1, "b": 1}), repeats=2)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("os.kill(os.getpid(), 9)", "failing was killed by SIGKILL$"),
        ("raise MemoryError('no room for the map')", "failing failed, exit code 1: MemoryError: no room for the map$"),
        ("print('all is well')", "failing ended without figures: all is well$"),
        ("", "failing ended without figures$"),
    ],
)
def test_what_died_is_told_with_its_last_words(
    program: str, expected: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "failing.py").write_text(f"import os\n{program}\n")
    paths = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    with pytest.raises(BenchmarkError, match=expected):
        in_process("failing", {}, environment={**os.environ, "PYTHONPATH": paths})
    assert ("Traceback" in capfd.readouterr().err) is ("MemoryError" in program), "all that it said is shown"


@pytest.mark.slow
def test_the_last_words_of_a_rank_are_told_and_not_those_of_torchrun() -> None:
    with pytest.raises(BenchmarkError, match=r"benchmarks\.step_measurement failed, exit code 1: KeyError: 'network'$"):
        in_process("benchmarks.step_measurement", {}, ranks=2)


@pytest.mark.parametrize("manner", [ATROUS, PLAIN, TUNED, FLOAT32, CHECKPOINTED])
def test_a_table_of_steps_goes_without_the_ways_that_died(manner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = networks_of("resnet18")
    costs = dict.fromkeys(networks, 1e9)
    monkeypatch.setattr(training_step, "operations", lambda *_: (costs, []))
    monkeypatch.setattr(training_step, "measured_peaks", lambda _: {"32-true": 1e9, "bf16-mixed": 1e9})
    monkeypatch.setattr(training_step, "precision_of", lambda *_: "bf16-mixed")
    ways = training_step.ways_of(networks, device="cpu")
    victims = {f"{networks[key].label}, {way}": 1 for key, way in ways if way == manner}
    measure = _dying(victims)
    labels = {(key, way): f"{networks[key].label}, {way}" for key, way in ways}
    monkeypatch.setattr(
        training_step,
        "in_process",
        lambda _, request, **__: measure(labels[request["network"], request["manner"]]),
    )
    section = training_step.measured_section(
        Setting(backbone="resnet18"), repeats=2, peers=[key for key, network in networks.items() if network.twin]
    )
    assert {row[0] for row in section.rows} == set(labels.values()) - set(victims)
    assert len(section.died) == len(victims) > 0
    told = [goal.what for goal in section.goals]
    assert len(set(told)) == len(told), "no other way stands in for one"
    assert not any(manner in what.partition(":")[0] for what in told)
    section.markdown()


@pytest.mark.parametrize("victim", [0, 1])
def test_inference_and_evaluation_show_the_way_that_lives(
    victim: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, names, make in (
        (
            inference,
            (inference_ways.PLAIN, inference_ways.ATROUS),
            lambda arguments: inference.section_of(inference_ways.SINGLE, arguments, {}),
        ),
        (evaluation, (evaluation.PLAIN, evaluation.ATROUS), evaluation.evaluation_section),
    ):
        killed = names[victim]
        measure = _dying({killed: 1})
        monkeypatch.setattr(module, "in_process", lambda _, request, measure=measure, **__: measure(request["name"]))
        arguments = argparse.Namespace(**SMALL, note=None, out=tmp_path, origin="")
        with pytest.raises(BenchmarkError, match=f"^{killed} died in turn 1 of 2"):
            command.finish_each([partial(make, arguments)], arguments)
        (file,) = tmp_path.glob("*.json")
        section = Section.read(file)
        assert killed not in {row[0] for row in section.rows}
        assert set(names) - {killed} <= {row[0] for row in section.rows}
        assert f"- {killed} died in turn 1 of 2: it was killed by SIGKILL" in section.markdown()
        file.unlink()


def test_later_sections_are_measured_though_something_died(tmp_path: Path) -> None:
    def section(key: str, *died: str) -> Section:
        return Section(key=key, title=key, text="", columns=("way",), rows=[["ours"]], died=died)

    def nothing() -> Section:
        raise BenchmarkError("all died")

    arguments: Any = argparse.Namespace(note=None, out=tmp_path, origin="")
    measures = (
        partial(section, "one", "a died"),
        nothing,
        partial(section, "two"),
        partial(section, "three", "b died"),
    )
    with pytest.raises(BenchmarkError, match=r"^a died; all died; b died$"):
        command.finish_each(measures, arguments)
    assert {file.stem for file in tmp_path.iterdir()} == {"one", "two", "three"}
