"""Exit codes: those of other programs, and which of them are the machine's."""

import os
import signal
import subprocess
import sys

import pytest

from atrous.exit_codes import DONE, FAILED, REFUSED, TEMPORARY, after_signal, is_of_the_machine


def test_the_codes_are_those_that_others_know() -> None:
    assert os.EX_TEMPFAIL == TEMPORARY
    shell = subprocess.run(["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"], check=False)
    assert shell.returncode == after_signal(signal.SIGTERM) == 143
    assert after_signal(signal.SIGINT) == 130


@pytest.mark.parametrize(("code", "expected"), [(DONE, False), (FAILED, False), (REFUSED, False), (TEMPORARY, True)])
def test_only_what_may_go_better_is_of_the_machine(code: int, expected: bool) -> None:
    assert is_of_the_machine(code) is expected


def test_a_killed_process_is_of_the_machine() -> None:
    killed = subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], check=False)
    assert is_of_the_machine(killed.returncode)
