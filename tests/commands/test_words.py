"""Words that Hydra would read otherwise than they were meant reach it as paths and lists."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from atrous.commands.words import as_list, with_home, with_path_quoted


@pytest.mark.parametrize(
    "path",
    ["a b", "a,b/c", "b[1]/seed0", "x=1/(2)", "say 'hi'", 'say "hi"', "a\\b.png", "ends\\", "漢 ü", "~nobody_/x", "1"],
)
def test_a_path_reaches_hydra_as_it_is(path: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([with_path_quoted(f"run={path}", ("run",))])
    assert not override.is_sweep_override()
    assert str(override.value()) == path


@pytest.mark.parametrize("word", ["run='a b'", 'run="a b"', "run=", "run=null", "--help", "tag=a,b", "run"])
def test_what_is_quoted_empty_or_no_path_stays(word: str) -> None:
    assert with_path_quoted(word, ("run",)) == word


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("protocol=a,b", "protocols=[a,b]"),
        ("protocol=[a,b]", "protocols=[a,b]"),
        ("protocol=a", "protocols=[a]"),
        ("protocols=[a]", "protocols=[a]"),
        ("protocol", "protocol"),
    ],
)
def test_a_list_may_be_written_with_and_without_brackets(word: str, expected: str) -> None:
    assert as_list(word, "protocol", "protocols") == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("store=~/a", "store=/home/me/a"),
        ("data.root=~", "data.root=/home/me"),
        ("store=~no_such_user/a", "store=~no_such_user/a"),
        ("store=a~", "store=a~"),
        ("~trainer", "~trainer"),
        ("store='~/a'", "store='~/a'"),
    ],
)
def test_a_tilde_at_the_beginning_of_a_value_is_the_home_folder(
    word: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert with_home(word) == expected
    assert with_path_quoted("output=~/a b", ("output",)) == "output='/home/me/a b'"
