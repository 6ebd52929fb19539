"""Chained trainings: the one before is a run of its own, and part of what the next one is."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from atrous.errors import ConfigError
from atrous.studies import jobs
from atrous.studies.configuration import resolve
from atrous.studies.identity import Identity, identify
from atrous.studies.overrides import parent_entry
from atrous.studies.parents import compose_parent, identity_of, parent_overrides

from .conftest import FakeJobs

pytestmark = pytest.mark.slow

Compose = Callable[..., DictConfig]
CHILD = ["recipe.optimizer.lr=0.01", "seed=3", "row=second"]
PARENT = "parent=['+data.train.seed=1','recipe.optimizer.lr=0.1']"


def test_the_parent_is_the_run_with_its_own_overrides_on_top(composed: Compose) -> None:
    overrides = [*CHILD, PARENT]
    found = parent_overrides(resolve(composed(*overrides)), overrides)
    assert found == ["seed=3", "recipe.optimizer.lr=0.1", "+data.train.seed=1", "parent=null"]
    assert parent_overrides(resolve(composed(*CHILD)), CHILD) is None


def test_the_parents_data_may_lie_elsewhere(composed: Compose, tmp_path: Path) -> None:
    other = "parent=['data=voc','recipe=voc']"
    overrides = ["data=camvid", "data.root=/a", other, f"parent_root={tmp_path}"]
    found = parent_overrides(resolve(composed(*overrides)), overrides)
    assert found is not None
    assert f"data.root={tmp_path}" in found
    assert "data.root=/a" not in found
    same = ["data=camvid", "data.root=/a", "parent=['recipe.max_steps=3']", f"parent_root={tmp_path}"]
    found = parent_overrides(resolve(composed(*same)), same)
    assert found is not None
    assert "data.root=/a" in found, "the same data lie where they lie"


def test_a_parent_may_have_a_parent(composed: Compose, tmp_path: Path) -> None:
    first = parent_entry(["data=coco", "recipe=coco", "recipe.max_steps=7"])
    overrides = ["data=voc", "data.root=/a", f"parent_root={tmp_path}", parent_entry(["recipe.max_steps=5", first])]
    before = compose_parent(resolve(composed(*overrides)), overrides)
    assert before is not None
    assert (before[0]["recipe"]["max_steps"], before[0]["data"]["root"]) == (5, "/a")
    origin = compose_parent(*before)
    assert origin is not None
    assert (origin[0]["recipe"]["max_steps"], origin[0]["data"]["root"]) == (7, str(tmp_path))
    assert compose_parent(*origin) is None
    assert identity_of(*before).name != identify(before[0]).name


def test_what_a_run_is_contains_what_it_starts_from(composed: Compose) -> None:
    def identity(*overrides: str) -> str:
        return identity_of(resolve(composed(*overrides)), overrides).name

    alone, chained = identity(*CHILD), identity(*CHILD, PARENT)
    other = identity(*CHILD, PARENT.replace("0.1", "0.2"))
    assert len({alone, chained, other}) == 3
    assert alone == identify(resolve(composed(*CHILD))).name
    again = identity(*CHILD, PARENT, "trainer.log_every=7")
    assert again == chained, "what changes no weights of either changes neither"


def test_a_cut_run_is_of_the_family_of_the_full_one_also_where_those_before_it_were_cut(composed: Compose) -> None:
    def identity(*overrides: str) -> Identity:
        return identity_of(resolve(composed(*overrides)), overrides)

    grandchild = parent_entry(["recipe.optimizer.lr=0.2", PARENT])
    for chained in (PARENT, grandchild):
        full, cut = identity(*CHILD, chained), identity(*CHILD, chained, "recipe.max_steps=1")
        assert cut.name != full.name
        assert cut.family == full.family
        assert cut.former_family != full.former_family, "which is how runs of before noted it"
    assert identity(*CHILD, grandchild).family != identity(*CHILD, PARENT).family
    assert identity(*CHILD, PARENT.replace("0.1", "0.2")).family != identity(*CHILD, PARENT).family


def test_what_a_chained_run_is_can_be_told_without_its_data(composed: Compose) -> None:
    overrides = ["data=voc", "parent=['data=coco','recipe=coco']"]
    config = resolve(composed(*overrides), needs_root=False)
    assert identity_of(config, overrides).name != identify(config).name


def test_an_entry_that_is_no_override_is_refused(composed: Compose) -> None:
    with pytest.raises(ConfigError, match=r"parent: 'coco' is not an override"):
        jobs.prepare(composed("parent=[coco]"), ["parent=[coco]"])
    with pytest.raises(ConfigError, match=r"recipe\.max_steps=0"):
        jobs.prepare(composed("parent=['recipe.max_steps=0']"), ["parent=['recipe.max_steps=0']"])


def test_a_missing_parent_is_trained_first_and_once(fake_jobs: FakeJobs) -> None:
    parent = fake_jobs.job("before")
    children = [fake_jobs.job(name) for name in ("one", "two")]
    for child in children:
        assert jobs.run(jobs.Job(child.config, child.identity, child.folder, child.overrides, parent)) == "done"
    started = [row for event, _, _, row, _ in fake_jobs.events() if event == "start"]
    assert started == ["before", "one", "two"]
    assert children[0].folder.facts()["parent"] == str(parent.folder.path)


def test_a_run_whose_parent_fails_is_not_started(fake_jobs: FakeJobs) -> None:
    fake_jobs.behave(before="fail")
    parent, child = fake_jobs.job("before"), fake_jobs.job("after")
    with pytest.raises(jobs.JobError, match="before"):
        jobs.run(jobs.Job(child.config, child.identity, child.folder, child.overrides, parent))
    assert not child.folder.config_file.exists()
