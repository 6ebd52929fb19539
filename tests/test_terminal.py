"""What is printed outlives its reader, and other errors of a stream are told."""
# ruff: noqa: T201  # it is about print

import io
import os
import sys

import pytest

from atrous.terminal import lasting_output


def test_what_nobody_reads_any_more_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with lasting_output():
            print("read", flush=True)
            assert os.read(reader, 100) == b"read\n"
            os.close(reader)
            for _ in range(3):
                print("lost" * 10_000)
                print("lost", flush=True)
            assert sys.stdout.fileno() == writer
            assert not sys.stdout.isatty()
        assert sys.stdout is stream
        print("lost", flush=True)


def test_what_is_left_at_the_end_is_no_error_either(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with lasting_output():
            print("lost", file=sys.stderr)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")  # noqa: PTH110
def test_a_full_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as stream:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", stream)
        with lasting_output():
            with pytest.raises(OSError, match="No space left"):
                print("full", flush=True)
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@pytest.mark.parametrize(
    ("encoding", "expected"), [("ascii", "65.9 ? 1.0 ? 3\nGr?n\n"), ("koi8-r", "65.9 ? 1.0 ≤ 3\nGr?n\n")]
)
def test_a_letter_that_the_encoding_lacks_is_a_question_mark(
    encoding: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    with lasting_output():
        print("65.9 ± 1.0 ≤ 3")
        print("Grün", flush=True)
    assert written.getvalue().decode(encoding) == expected
