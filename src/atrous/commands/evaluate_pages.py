"""The pages of atrous-evaluate: what was measured, with images, and two runs side by side."""

import hashlib
import shlex
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from atrous.commands.evaluate_subject import RELEASED, Subject
from atrous.evaluation.comparison import most_changed, render_comparison, require_same_images
from atrous.evaluation.page import Shown, render_evaluation
from atrous.evaluation.pictures import Picture, choose, take_pictures
from atrous.evaluation.protocol import load_protocol
from atrous.evaluation.records import ImageRecords
from atrous.files import write_text
from atrous.progress import progress
from atrous.training.measuring import feeding_of

_IMAGES = 3  # of each kind
_OF_THIS_COMMAND = ("run", "weights", "protocols", "compare", "page", "overwrite")


def evaluation_page(subject: Subject, protocol: str) -> None:
    """Write the page of an evaluation; the images on it are predicted once more."""
    shown = _shown(subject, protocol)
    chosen = choose(shown.records, _IMAGES)
    pictures = _pictures(subject, protocol, shown.records, [place for places in chosen.values() for place in places])
    page = render_evaluation(shown, chosen, pictures, command=_command(subject, protocol))
    write_text(subject.page(protocol), page)


def comparison_page(first: Subject, second: Subject, protocol: str) -> Path:
    """Write the page of what differs between two runs, into the folder of the first.

    Returns:
        The file.

    Raises:
        StoreError: they were not scored on the same images.
    """
    shown = _shown(first, protocol), _shown(second, protocol)
    require_same_images(*shown)
    chosen = most_changed(*shown, _IMAGES + 1)
    places = [place for of_kind in chosen.values() for place in of_kind]
    pictures = tuple(
        _pictures(subject, protocol, of.records, places) for subject, of in zip((first, second), shown, strict=True)
    )
    command = f"{_command(first, protocol)} compare={shlex.quote(str(second.folder.path))}"
    path = first.page(protocol).with_name(f"against-{_file_name(first, second)}.html")
    write_text(path, render_comparison(*shown, chosen, (pictures[0], pictures[1]), command=command))
    return path


def _file_name(first: Subject, second: Subject) -> str:
    """The second one's name, with a digest of its store where that is another: runs of one config share their name."""
    stores = [subject.folder.path.resolve().parent.parent for subject in (first, second)]
    digest = "" if stores[0] == stores[1] else f"-{hashlib.sha256(bytes(stores[1])).hexdigest()[:8]}"
    return f"{second.name.replace('/', '-')}{digest}"


def _shown(subject: Subject, protocol: str) -> Shown:
    entry = subject.entry(protocol)
    result = dict(subject.folder.results()["evaluations"][entry])
    published = subject.published(protocol)
    if published is not None:
        result["published"] = {"miou": published}
    records = ImageRecords.load(subject.folder.records_file(entry))
    return Shown(name=subject.name, entry=entry, result=result, spec=subject.dataset.spec, records=records)


def _pictures(subject: Subject, protocol: str, records: ImageRecords, places: list[int]) -> dict[int, Picture]:
    indices = [int(records.indices[place]) for place in places]
    feeding = feeding_of(subject.config)
    with progress(f"{subject.name}, images of the page") as report:
        return take_pictures(
            subject.model, subject.dataset, load_protocol(protocol), feeding, indices, on_progress=report
        )


def _command(subject: Subject, protocol: str) -> str:
    """The command that measures this alone: of the words that were given, those that say what is scored."""
    what = f"weights={subject.name}" if subject.checkpoint == RELEASED else f"run={subject.folder.path}"
    given = [str(word) for word in HydraConfig.get().overrides.task]
    others = [word for word in given if word.partition("=")[0] not in _OF_THIS_COMMAND]
    return shlex.join(["atrous-evaluate", what, f"protocol={protocol}", *others])
