"""The class list of your own data: what may stand in it, and what is wrong with it."""

from pathlib import Path
from typing import Any

import pytest

from atrous.data.class_list import ClassList
from atrous.data.spec import voc_colour
from atrous.errors import DataError


def test_names_alone_are_enough(tmp_path: Path) -> None:
    classes = ClassList(["road", "tree"], root=tmp_path)
    assert classes.spec.classes == ("road", "tree")
    assert classes.spec.palette == (voc_colour(0), voc_colour(1))
    assert classes.spec.ignore_label == 255
    assert classes.label_of == {}


def test_a_yaml_file_may_hold_names_colours_and_what_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text(
        "name: streets\n"
        "classes:\n"
        "  - {name: road, colour: [128, 64, 128]}\n"
        "  - {name: tree, colour: [0, 128, 0]}\n"
        "ignore_label: 200\n"
        "ignore_colour: [0, 0, 0]\n"
    )
    classes = ClassList(tmp_path / "classes.yaml", root=tmp_path)
    assert (classes.spec.name, classes.spec.classes, classes.spec.ignore_label) == ("streets", ("road", "tree"), 200)
    assert classes.spec.palette == ((128, 64, 128), (0, 128, 0))
    assert classes.label_of == {(128, 64, 128): 0, (0, 128, 0): 1, (0, 0, 0): 200}


def test_a_list_is_found_in_a_root_that_is_in_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "classes.yaml").write_text("[a, b]")
    assert ClassList("classes.yaml", root=Path("~/data")).spec.classes == ("a", "b")
    with pytest.raises(DataError, match="neither here nor in '~no-such-person/data'"):
        ClassList("classes.yaml", root=Path("~no-such-person/data"))


def test_a_path_counts_from_here_and_then_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, root = tmp_path / "here", tmp_path / "root"
    for folder, names in ((here, "[a, b]"), (root, "[c, d]")):
        folder.mkdir()
        (folder / "classes.yaml").write_text(names)
    monkeypatch.chdir(here)
    assert ClassList("classes.yaml", root=root).spec.classes == ("a", "b")
    (here / "classes.yaml").unlink()
    assert ClassList("classes.yaml", root=root).spec.classes == ("c", "d")
    (root / "classes.yaml").unlink()
    with pytest.raises(DataError, match=r"data\.classes='classes\.yaml' is not a file, neither here nor in '.*root'"):
        ClassList("classes.yaml", root=root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"the class list is empty; expected `classes: \[first, second\]`"),
        ({"classes": []}, "the class list is empty"),
        (None, r"data\.classes has no value: give the class list, e\.g\. data\.classes=classes\.yaml"),
        ({"classes": "sky road"}, "the classes are no list but 'sky road'; expected `classes: .*, or `- first`"),
        ({"classes": {0: "sky", 1: "road"}}, "the classes are no list but {0: 'sky', 1: 'road'}; expected"),
        ({"classes": ["a", "b"], "ignore": 3}, "unknown key 'ignore'; there are name, classes, ignore_label"),
        ([{"name": "a", "color": [0, 0, 0]}, "b"], "unknown key 'color'; there are name, colour"),
        ([{"colour": [0, 0, 0]}, "b"], "has no name"),
        (["a", False], "False is not a class; expected a name, in quotes if it reads as something else"),
        (["only"], "1 classes; expected 2 to 254"),
        (["a", "b", "a"], r"class names must differ, but \['a'\] appear more than once"),
        ({"classes": ["a", "b"], "ignore_label": 1}, "ignore_label=1 must lie between the number of classes"),
        ({"classes": ["a", "b"], "ignore_label": "void"}, "ignore_label='void' is not a whole number"),
        ([{"name": "a", "colour": [0, 0, 0]}, "b"], "class 'b' has no colour; give every class one, or none"),
        ({"classes": ["a", "b"], "ignore_colour": [0, 0, 0]}, "class 'a' has no colour"),
        (
            [{"name": "a", "colour": [0, 0]}, "b"],
            r"the colour \[0, 0\] of 'a' is not RGB; expected three whole numbers",
        ),
        ([{"name": "a", "colour": [0, 0, 256]}, "b"], r"the colour \[0, 0, 256\] of 'a' is not RGB"),
        ([{"name": "a", "colour": "red"}, "b"], "the colour 'red' of 'a' is not RGB"),
    ],
)
def test_a_wrong_class_list_is_an_error_that_names_what_is_wrong(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ClassList(content, root=tmp_path)


def test_a_colour_that_is_used_twice_is_an_error_that_names_both_users(tmp_path: Path) -> None:
    entries = [
        {"name": name, "colour": colour} for name, colour in (("a", [1, 2, 3]), ("b", [0, 0, 0]), ("c", [1, 2, 3]))
    ]
    with pytest.raises(DataError, match=r"colour \[1, 2, 3\] is used twice, by 'a' and by 'c'; colours must differ"):
        ClassList(entries, root=tmp_path)
    with pytest.raises(DataError, match=r"colour \[0, 0, 0\] is used twice, by 'b' and by 'ignore_colour'"):
        ClassList({"classes": entries[:2], "ignore_colour": [0, 0, 0]}, root=tmp_path)


@pytest.mark.parametrize("content", ["classes: [a, b", "\xff\xfe"])
def test_a_file_that_is_no_yaml_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "classes.yaml").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=r"classes\.yaml' cannot be read as YAML"):
        ClassList(tmp_path / "classes.yaml", root=tmp_path)


def test_an_empty_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("# nothing yet\n")
    with pytest.raises(DataError, match=r"classes\.yaml': the class list is empty"):
        ClassList(tmp_path / "classes.yaml", root=tmp_path)
