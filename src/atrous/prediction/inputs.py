"""What `input=` means: a file, a folder, a glob or a video; and where what is predicted of it goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from atrous.data.files import IMAGE_ENDS, OTHER_IMAGE_ENDS
from atrous.errors import ConfigError, DataError
from atrous.files import at_home, check_writable
from atrous.prediction.finding import candidates

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
_OTHER_VIDEOS = (".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".mts", ".m2ts")
SAVES = ("overlay", "labels", "probabilities", "json")
_ENDINGS = {
    "overlay": "_overlay.jpg",
    "labels": "_labels.png",
    "probabilities": "_probabilities.npz",
    "json": ".json",
}
_VIDEO_ENDINGS = {"overlay": "_overlay.mp4", "labels": "_labels", "json": ".json"}


@dataclass(frozen=True)
class Job:
    """One input and the files that are written of it.

    Attributes:
        source: the image or the video.
        outputs: file by kind, a kind being one of `SAVES`; a video's labels are a folder.
    """

    source: Path
    outputs: dict[str, Path]

    @property
    def is_video(self) -> bool:
        """Whether the source is a video."""
        return self.source.suffix.lower() in VIDEOS


def plan(
    given: str,
    output: str | Path,
    *,
    save: Sequence[str],
    overwrite: bool,
    resume: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Job]:
    """Find the inputs and say what each of them becomes; refuse what cannot be before any long work.

    Args:
        given: a file, a folder (searched through, and its structure kept), a glob, or a video.
        output: the folder to write to. What lies in it is no input where it is a sub-folder of the input, nor what
            this command has made of another input where it is the input's own folder.
        save: kinds of `SAVES`.
        overwrite: whether files that are there may be replaced.
        resume: whether files that are there are left as they are, and only those that are missing are written.
        say: told which images and videos are no inputs because of their type.

    Returns:
        Every input that lacks a file, or is written anew.

    Raises:
        DataError: nothing is there.
        ConfigError: an unknown kind, two inputs that would become the same file, or files that are there already.
    """
    if overwrite and resume:
        raise ConfigError("overwrite=true replaces what is there and resume=true keeps it: give one of them")
    _check_kinds(save)
    output = at_home(output)
    root, files = _find(given, say)
    files = _without_own(files, root, output)
    if not files:
        raise DataError(f"input={given!r} holds nothing but what was predicted into output={str(output)!r}")
    jobs = [_job(path, path.relative_to(root), output, save) for path in files]
    _refuse_twice(jobs)
    if resume:
        jobs = [job for job in map(_missing_of, jobs) if job.outputs]
    written = [path for job in jobs for path in job.outputs.values()]
    if not resume:  # which makes anew what broke off
        written += [broken_off(path) for job in jobs if job.is_video for path in job.outputs.values()]
    there = [path for path in written if _exists(path)]
    if there and not overwrite:
        raise ConfigError(
            f"output={str(output)!r} has {len(there)} of the files already, such as {there[0]}; "
            "add overwrite=true to replace them, resume=true to write the others, or choose another folder"
        )
    check_writable(output)
    return jobs


def _check_kinds(save: Sequence[str]) -> None:
    unknown = [kind for kind in save if kind not in SAVES]
    if unknown or not save:
        given = f"save={unknown[0]!r} is unknown" if unknown else "save=[] keeps nothing"
        raise ConfigError(f"{given}; choose of {', '.join(SAVES)}")


def _find(given: str, say: Callable[[str], None]) -> tuple[Path, list[Path]]:
    path = at_home(given)
    if _is_file(path) and path.suffix.lower() in _OTHER_VIDEOS:
        raise DataError(
            f"input={given!r} is a video of a type that is not read; convert it to one of {', '.join(VIDEOS)}"
        )
    if _is_file(path):
        return path.parent, [path]
    there = candidates(given)
    found = sorted(path for path in there if path.suffix.lower() in IMAGE_ENDS + VIDEOS and _may_be_read(path))
    if found:
        _say_left_out(given, there, say)
        return (path if path.is_dir() else _common_folder(found)), found
    if path.is_dir():
        raise DataError(f"input={given!r} is a folder without images or videos ({', '.join(IMAGE_ENDS + VIDEOS)})")
    if there:
        raise DataError(f"input={given!r} matches no images or videos ({', '.join(IMAGE_ENDS + VIDEOS)})")
    raise DataError(f"input={given!r}: no such image, folder or video, and no files that match it")


def _say_left_out(given: str, there: Sequence[Path], say: Callable[[str], None]) -> None:
    ends = OTHER_IMAGE_ENDS + _OTHER_VIDEOS
    others = sorted(path for path in there if path.suffix.lower() in ends and _is_file(path))
    if others:
        number = f"{len(others)} {'file is' if len(others) == 1 else 'files are'}"
        say(f"{number} left out of input={given!r}, such as {others[0]}: read are {', '.join(IMAGE_ENDS + VIDEOS)}")


def _may_be_read(path: Path) -> bool:
    """Whether it is a file, or leads to none, or to a folder of somebody else: told with what cannot be read then."""
    return _is_file(path) or not _exists(path)


def _without_own(files: Sequence[Path], root: Path, output: Path) -> list[Path]:
    """Leave out what this command has written into the folder of its inputs."""
    within, folder = root.resolve(), output.resolve()
    if folder == within:
        made = {path for file in files for path in _made_of(file)}
        return [file for file in files if file not in made and file.parent not in made]
    is_output = cache(lambda path: path.resolve() == folder)  # also where a link leads there
    return [file for file in files if not any(is_output(root / path) for path in file.relative_to(root).parents)]


def _made_of(source: Path) -> list[Path]:
    endings = _VIDEO_ENDINGS if source.suffix.lower() in VIDEOS else _ENDINGS
    whole = [source.with_name(source.stem + ending) for ending in endings.values()]
    return [*whole, *map(broken_off, whole)] if endings is _VIDEO_ENDINGS else whole


def broken_off(path: Path) -> Path:
    """The name of what is written of a video that is not whole; the whole one's would say that it is finished."""
    stem = path.name.removesuffix(suffix := path.suffix if path.suffix in (".mp4", ".json") else "")
    return path.with_name(f"{stem}_broken_off{suffix}")


def _common_folder(paths: Sequence[Path]) -> Path:
    folder = paths[0].parent
    while not all(path.is_relative_to(folder) for path in paths):
        folder = folder.parent
    return folder


def _job(source: Path, relative: Path, output: Path, save: Sequence[str]) -> Job:
    video = source.suffix.lower() in VIDEOS
    if video and "probabilities" in save:
        raise ConfigError(f"save=probabilities: gigabytes for a video such as {source}; choose overlay, labels or json")
    endings = _VIDEO_ENDINGS if video else _ENDINGS
    stem = output / relative.with_suffix("")
    return Job(source, {kind: stem.with_name(stem.name + endings[kind]) for kind in save})


def _missing_of(job: Job) -> Job:
    """What is still to be written: files appear whole, so those that are there are finished."""
    return Job(job.source, {kind: path for kind, path in job.outputs.items() if not _exists(path)})


def _exists(path: Path) -> bool:
    """Whether a file is there; one whose name is too long for its folder is not."""
    return os.path.exists(path)  # noqa: PTH110  # Path.exists raises


def _is_file(path: Path) -> bool:
    """Whether it is a file, and may be looked at."""
    return os.path.isfile(path)  # noqa: PTH113  # Path.is_file raises


def _refuse_twice(jobs: Sequence[Job]) -> None:
    owner: dict[Path, Path] = {}
    for job in jobs:
        for path in job.outputs.values():
            if path in owner:
                raise ConfigError(f"{owner[path]} and {job.source} would both become {path}; give them other names")
            owner[path] = job.source
