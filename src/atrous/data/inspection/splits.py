"""The splits of a data set as they are on disk, and what is wrong with their lists."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from atrous.data.dataset import SegmentationDataset
from atrous.data.leakage import refuse_shared_samples, shared_samples
from atrous.errors import DataError

_UNION = "trainval"


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split, opened or not.

    Attributes:
        name: such as "val".
        dataset: its images; None where they could not be listed.
        problem: why they could not be listed.
        used: whether the config trains or evaluates on it. Another split may be absent.
    """

    name: str
    dataset: SegmentationDataset | None = None
    problem: str = ""
    used: bool = False

    @property
    def listed(self) -> int:
        """Number of images in the list; 0 where they could not be listed."""
        return 0 if self.dataset is None else len(self.dataset)

    @property
    def ids(self) -> list[str]:
        """Names of the images in the order of the list; none where they could not be listed."""
        return [] if self.dataset is None else [self.dataset.sample_id(index) for index in range(len(self.dataset))]

    @property
    def official_images(self) -> int | None:
        """How many images the split officially has, where that is known."""
        return getattr(self.dataset, "official_count", None)


def list_problems(splits: Sequence[Split], *, allow_shared: bool = False) -> Iterator[str]:
    """Yield what is wrong with the lists: unlistable splits, ids listed twice, ids both trained and evaluated on.

    Args:
        splits: of one data set.
        allow_shared: whether the two that are used may share images, as `data.allow_shared_samples` says.
    """
    yield from dict.fromkeys(split.problem for split in splits if split.used and split.problem)
    for split in splits:
        for sample_id, times in Counter(split.ids).items():
            if times > 1:
                yield f"{sample_id!r} is listed {times} times in {split.name}; list it once"
    shared: dict[str, dict[str, None]] = {}
    for one, other in combinations(splits, 2):
        if one.dataset is None or other.dataset is None or (allow_shared and one.used and other.used):
            continue
        if _must_be_disjoint(one.name, other.name):
            for sample_id in shared_samples(one.dataset, other.dataset):
                shared.setdefault(sample_id, {}).update({one.name: None, other.name: None})
        elif one.used and other.used:
            try:  # as a training does: their names say why they share images, and no more
                refuse_shared_samples(one.dataset, other.dataset)
            except DataError as error:
                yield str(error)
    for sample_id, names in shared.items():
        yield f"{sample_id!r} is both in {' and in '.join(names)}; an image that is trained on must not be evaluated"


def holds_by_definition(one: str, other: str) -> bool:
    """Tell whether one split is made of the other, as trainval and train+val are of val."""
    parts = [set(name.replace(_UNION, "train+val").split("+")) for name in (one, other)]
    return parts[0] != parts[1] and (parts[0] <= parts[1] or parts[1] <= parts[0])


def _must_be_disjoint(one: str, other: str) -> bool:
    """Splits that are trained on may overlap each other (train_aug holds train); nothing else may."""
    both_trained = one.startswith("train") and other.startswith("train")
    return not both_trained and not holds_by_definition(one, other)
