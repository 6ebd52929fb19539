"""torchmetrics is imported without scipy.signal, which stays what it is for everybody else."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOADED = "import sys; print('scipy.signal' in sys.modules, 'torchmetrics' in sys.modules); "


def _output_of(program: str) -> list[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout.splitlines()


@pytest.mark.parametrize("module", ["atrous.evaluation.scores", "atrous.training.run"])
def test_a_process_that_trains_or_evaluates_is_spared_it_until_somebody_wants_it(module: str) -> None:
    program = f"import {module}; {_LOADED}"
    program += "import scipy.signal; print(scipy.signal.find_peaks([0, 1, 0])[0], scipy.signal.__name__)"
    assert _output_of(program) == ["False True", "[1] scipy.signal"]


def test_what_was_loaded_before_stays() -> None:
    program = "import scipy.signal as before; from atrous import lean_torchmetrics; import scipy.signal as after; "
    assert _output_of(program + "print(before is after)") == ["True"]


def test_another_name_of_it_is_the_real_modules_while_torchmetrics_is_imported() -> None:
    program = "from atrous.lean_torchmetrics import _spared\nwith _spared():\n    from scipy.signal import find_peaks\n"
    program += (
        "    import scipy.signal\n    print(find_peaks is scipy.signal.find_peaks, hasattr(find_peaks, 'hamming'))"
    )
    assert _output_of(program) == ["True False"]


def test_a_module_of_it_is_the_real_one_while_torchmetrics_is_imported() -> None:
    program = (
        "from atrous.lean_torchmetrics import _spared\nwith _spared():\n    from scipy.signal.windows import hann\n"
    )
    assert _output_of(program + "    print(hann(3).tolist())") == ["[0.0, 1.0, 0.0]"]


def test_scores_count_as_before() -> None:
    program = "from atrous.evaluation.scores import confusion_matrix; import torch; m = confusion_matrix(2); "
    program += "m.update(torch.tensor([0, 1]), torch.tensor([0, 0])); print(m.compute().tolist())"
    assert _output_of(program) == ["[[1, 1], [0, 0]]"]
