"""Any override of any key: a run that can be prepared, or an error that the commands tell in words."""

import copy
import functools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from atrous.commands.explain import explain
from atrous.errors import AtrousError
from atrous.resources import conf_folder
from atrous.studies.checks import check
from atrous.studies.composing import raised_by_hydra
from atrous.studies.configuration import resolve
from atrous.studies.jobs import Job, prepare
from atrous.studies.schema import register

COMPOSED = settings(max_examples=max(5, settings().max_examples // 4))  # Hydra takes 0.2 s for each
STARTS = ((), ("model=deeplabv3_cascade",), ("backbone=xception65", "model=deeplabv3"), ("backbone=mobilenetv2",))
GROUPS = ("model", "backbone", "data", "recipe", "trainer", "logger", "scale", "+experiment")
VALUES = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([4, 8, 16, 17, 32, 33, 64, 65, 129, 513]),  # what strides, crops and batches are
    st.sampled_from([2**40, -(2**40), 10**30]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.booleans(),
    st.none(),
    st.text(max_size=6),
    st.lists(st.integers(-1, 4) | st.text(max_size=2) | st.none(), max_size=4),
    st.lists(st.lists(st.integers(-1, 9), max_size=3), max_size=3),
    st.sampled_from([{}, {"_target_": "os.system"}, {"a": 1}, "os.system", "${seed}", "${nowhere}", "../..", "/", "."]),
)
TEXTS = st.one_of(
    VALUES.map(
        lambda value: "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    ),
    st.sampled_from(["", "[", "[1,", "{a:1}", "'", "\\", "a=b", "1,2", "range(3)", "${oc.env:HOME}", "1e-3", "0x10"]),
)


@functools.cache
def config_of(start: tuple[str, ...]) -> Any:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        return compose(config_name="train", overrides=list(start))


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a config, sections included."""
    if path:
        yield path
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield from leaves(node[key], (*path, key))


@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
@given(start=st.sampled_from(STARTS), data=st.data())
def test_any_values_in_a_config_are_checked_without_a_crash(start: tuple[str, ...], data: st.DataObject) -> None:
    """The schema keeps the types of most keys; what it leaves open (a backbone's lists, transforms) may be anything."""
    config = copy.deepcopy(config_of(start))
    keys = sorted(leaves(OmegaConf.to_container(config)), key=str)
    for _ in range(data.draw(st.integers(1, 3))):
        key = ".".join(map(str, data.draw(st.sampled_from(keys))))
        try:
            OmegaConf.update(config, key, data.draw(VALUES), force_add=data.draw(st.booleans()))
        except (OmegaConfBaseException, AssertionError, AttributeError, TypeError):
            continue  # of OmegaConf itself: on the command line the grammar is in between
    with suppress(AtrousError):
        check(resolve(config))


@COMPOSED
@given(data=st.data())
def test_any_command_line_is_a_run_or_an_error_in_words(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    keys = [".".join(map(str, key)) for key in leaves(OmegaConf.to_container(config_of(())))]
    prefixes = st.sampled_from(["", "", "", "", "+", "++", "~"])
    choices = st.sampled_from(["tiny", "voc", "shapes", "deeplabv3", "deeplabv3/table1", "smoke", "nope", "null"])
    overrides = data.draw(
        st.lists(
            st.builds("{}{}={}".format, prefixes, st.sampled_from(keys), TEXTS)
            | st.builds("{}={}".format, st.sampled_from(GROUPS), choices),
            min_size=1,
            max_size=3,
        )
    )
    overrides = [text for text in overrides if not text.startswith(("store=", "data.cache=", "hydra"))]
    store = f"store={tmp_path_factory.getbasetemp() / 'store'}"
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
            job = prepare(compose(config_name="train", overrides=[*overrides, store]), overrides)
    except AtrousError:
        return
    except Exception as error:
        if isinstance(error, HydraException | OmegaConfBaseException):
            told = explain(error, config_name="train")
            assert told.strip()
            assert "Traceback" not in told
        elif not raised_by_hydra(error):
            raise
        return
    assert isinstance(job, Job)
    assert not Path(job.folder.path).exists(), "preparing writes nothing"
