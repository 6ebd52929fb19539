"""Overrides as texts: their order, their substitution, and what they say of parents and budgets."""

from typing import Any, cast

import pytest

from atrous.studies.overrides import merge, parent_entry, parse, substitute, without_budget


def test_group_choices_come_before_values_and_the_last_of_a_key_counts() -> None:
    assert merge(["model.blocks=6", "backbone=tiny", "model.blocks=7", "model=deeplabv3_cascade"]) == [
        "backbone=tiny",
        "model=deeplabv3_cascade",
        "model.blocks=7",
    ]


def test_substitution_touches_only_the_values_it_names() -> None:
    table = {"backbone": {"resnet101": "tiny"}}
    given = ["backbone=resnet101", "backbone=resnet50", "data=voc", "model.multi_grid=[1,2,4]"]
    assert substitute(given, table) == ["backbone=tiny", *given[1:]]


def test_substitution_reaches_into_parents_of_parents() -> None:
    given = parent_entry(["data=voc", parent_entry(["data=coco", "x='it'"])])
    (found,) = substitute([given], {"data": {"coco": "shapes_more", "voc": "shapes"}})
    assert found == parent_entry(["data=shapes", parent_entry(["data=shapes_more", "x='it'"])])


@pytest.mark.parametrize("text", ["a=b", "a='b'", "a='b\\'", 'a="b"', "a='b',\"c\"", "a\\'b\"c\\"])
def test_an_entry_of_parent_is_read_back_as_it_was(text: str) -> None:
    (override,) = parse([parent_entry([text])])
    (entry,) = cast(list[Any], override.value())
    assert str(getattr(entry, "text", entry)) == text


def test_a_cut_budget_can_be_told_from_what_was_asked() -> None:
    assert without_budget(["+experiment=a/b", "recipe.max_steps=1", "seed=1,2"]) == ["+experiment=a/b", "seed=1,2"]
