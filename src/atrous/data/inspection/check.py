"""The result of checking a data set: statistics of every split that could be opened, and every problem found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from atrous.data.dataset import has_masks
from atrous.data.inspection.reading import Reading, Readings
from atrous.data.inspection.splits import Split, list_problems
from atrous.data.inspection.statistics import SplitStatistics, summarise
from atrous.data.leakage import shared_samples
from atrous.data.spec import DatasetSpec


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        spec: the label space.
        splits: all splits, also those that could not be opened.
        statistics: of the splits that could be opened, by name.
        problems: one line each, with the file or the id; empty when the data set can be used.
        shared: how many images the two used splits share; a problem unless the config allows it.
    """

    spec: DatasetSpec
    splits: tuple[Split, ...]
    statistics: dict[str, SplitStatistics]
    problems: tuple[str, ...]
    shared: int = 0

    @property
    def used(self) -> list[Split]:
        """The splits that the config trains or evaluates on and that could be opened, in order."""
        return [split for split in self.splits if split.used and split.dataset is not None]

    @property
    def sharing(self) -> str:
        """What a passing check says about images that are trained and evaluated on."""
        return (
            f"{self.shared} images are shared, as data.allow_shared_samples allows"
            if self.shared
            else "the splits are disjoint"
        )

    @property
    def notes(self) -> list[str]:
        """What is worth knowing but no error, such as a split that is only a part of the official one."""
        return list(_notes(self))


def conclude(
    splits: Sequence[Split], pairs: Readings, readings: Sequence[Reading], *, allow_shared: bool = False
) -> CheckResult:
    """Put together what was read.

    Args:
        splits: splits of one data set, at least one of which could be opened.
        pairs: their distinct pairs.
        readings: what each of them gave, in order.
        allow_shared: whether the two used splits may share images.
    """
    spec = next(split.dataset.spec for split in splits if split.dataset is not None)
    statistics = {
        split.name: summarise(readings, places, num_classes=spec.num_classes)
        for split, places in zip(splits, pairs.places, strict=True)
        if split.dataset is not None
    }
    problems = [
        *list_problems(splits, allow_shared=allow_shared),
        *(problem for reading in readings for problem in reading.problems),
    ]
    used = [split.dataset for split in splits if split.used and split.dataset is not None]
    shared = sum(len(shared_samples(one, other)) for one, other in combinations(used, 2))
    return CheckResult(spec, tuple(splits), statistics, tuple(dict.fromkeys(problems)), shared)


def _notes(result: CheckResult) -> Iterator[str]:
    known = [(split, split.official_images) for split in result.splits if split.official_images is not None]
    parts = [f"{split.name} {split.listed} of {official}" for split, official in known if official > split.listed]
    if parts:
        yield f"a part of the official images: {', '.join(parts)}; scores are not comparable with the papers'"
    for split, official in known:
        if official < split.listed:
            yield f"{split.name} has {split.listed} images, the official split {official}"
    for split in result.splits:
        if split.dataset is None and not split.used:
            yield f"{split.name} is not there, and this config does not use it"
    for split in result.used:
        absent = _absent_classes(split, result)
        if absent:
            yield f"no image of {split.name} shows {', '.join(absent)}"
    if result.shared:
        names = " and ".join(split.name for split in result.used)
        yield f"{names} share {result.shared} images: a score on images learnt by heart says nothing"


def _absent_classes(split: Split, result: CheckResult) -> list[str]:
    if split.dataset is None or not has_masks(split.dataset):
        return []
    images_of = result.statistics[split.name].images_of
    return [name for name, images in zip(result.spec.classes, images_of, strict=True) if not images]
