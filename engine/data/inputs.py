"""The images that are named on a command line: files, folders and globs. None of them is decoded."""

import glob
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from engine.data.formats.images import num_pages
from engine.data.formats.listing import ARRAY_ENDINGS, IMAGE_ENDINGS, images_below, is_of_a_tool
from engine.data.sample import DataError, UnreadableSample, first_few
from engine.wording import near_path


@dataclass(frozen=True)
class InputImage:
    """One image.

    place: path below the folder of all inputs. name: of the files made of it, without extension.
    input_folder: the innermost folder that the user typed and that contains the image; its parent where the
    image itself was typed. is_typed: whether it was, or by a glob.
    """

    path: Path
    place: str
    name: str
    input_folder: Path
    is_typed: bool = False


def input_images(inputs: Sequence[str], left_out: Path) -> list[InputImage]:
    """Every image once, in the order of the inputs.

    Names keep the folders below the one that all inputs share, so `a/1.jpg` and `b/1.jpg` get different
    names. Where two images differ only in their extension, all names keep their extension.

    Args:
        inputs: files with any extension; folders, with their sub-folders; or globs, `**` included.
        left_out: the folder of the output; its images are not inputs.

    Raises:
        DataError: an input that does not exist, matches nothing or holds no image; all of them are named.
    """
    folders, problems = list[Path](), list[str]()
    input_folders: dict[Path, Path] = {}
    typed = set[Path]()
    for text in inputs:
        found = _found(text)
        if isinstance(found, str):
            problems.append(found)
            continue
        for path in found:
            is_folder = path.is_dir()
            folder = path if is_folder else path.parent
            folders.append(folder)
            if not is_folder:
                typed.add(path)
            for image in _images_in(path) if is_folder else [path]:
                innermost = max(input_folders.get(image, folder), folder, key=lambda one: len(one.parts))
                input_folders[image] = innermost
    if problems:
        raise DataError("\n".join(problems))
    paths = [path for path in input_folders if not path.is_relative_to(_absolute(str(left_out)))]
    if not paths:  # an input without any is a problem
        raise DataError(
            f"--out {left_out}: all images of {', '.join(inputs)} are in this folder, and images in the "
            "folder of the output are not predicted. Name another folder with --out."
        )
    root = os.path.commonpath(folders)
    places = [path.relative_to(root) for path in paths]
    images = [
        InputImage(path, place.as_posix(), "", input_folders[path], path in typed)
        for path, place in zip(paths, places, strict=True)
    ]
    return with_names(images)


def with_names(images: Sequence[InputImage]) -> list[InputImage]:
    """With the shortest names that differ: all without extension, or all with it."""
    stems = [Path(image.place).with_suffix("").as_posix() for image in images]
    is_unique = len({stem.lower() for stem in stems}) == len(stems)
    return [
        replace(image, name=stem if is_unique else image.place)
        for image, stem in zip(images, stems, strict=True)
    ]


def several_pages(image: InputImage) -> int | None:
    """How many pages or frames a file has, of which only the first is read; None of one.

    Frames of a GIF are counted by reading all of it, so ask only where an image is read anyway.
    """
    with suppress(UnreadableSample):  # reported where it is read
        if (number := num_pages(image.path)) > 1:
            return number
    return None


def note_on_pages(several: Mapping[Path, int]) -> str:
    """A sentence on the files of several pages or frames, from their numbers of pages."""
    named = [f"{path} ({number})" for path, number in several.items()]
    return (
        f"Of files with several pages or frames only the first is predicted: {first_few(named)}. For all, "
        "save each as a file of its own."
    )


def _found(text: str) -> list[Path] | str:
    """The files and folders of one input, or what is wrong with it."""
    path = _absolute(text)
    if path.is_dir():
        return (
            [path] if _images_in(path) else f"{text}: no image in this folder ({', '.join(IMAGE_ENDINGS)})."
        )
    if path.exists():  # before globs, as a name may contain brackets
        return [path]
    if not glob.has_magic(text):
        return f"{text}: no such file or folder.{near_path(text)}"
    matches = _once(sorted(glob.glob(os.path.expanduser(text), recursive=True)), text)
    endings = (*IMAGE_ENDINGS, *ARRAY_ENDINGS)
    images = [match for match in matches if match.is_dir() or match.suffix.lower() in endings]
    if matches and not images:
        return f"{text}: no image among its {len(matches)} matches, such as {first_few(matches, 1)}."
    return images or f"{text}: nothing matches."


def _once(matches: Sequence[str], text: str) -> list[Path]:
    """Without folders of tools, and what is found again behind a link to a folder around it."""
    by_place: dict[tuple[str, str], Path] = {}
    for match in sorted(matches, key=lambda match: match.count(os.sep)):
        if any(is_of_a_tool(part) and part not in text for part in Path(match).parts):
            continue
        path = _absolute(match)
        by_place.setdefault((os.path.realpath(path.parent), path.name), path)
    return sorted(by_place.values())


def _images_in(folder: Path) -> list[Path]:
    try:
        return images_below(folder)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _absolute(text: str) -> Path:
    """Without resolving links: names are those that the user sees."""
    return Path(os.path.abspath(os.path.expanduser(text)))
