"""The contents of folders: lists of ids, images with masks, and the messages where something is missing."""

import codecs
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from engine.data.formats.files import Pair
from engine.data.sample import DataError, first_few, require_regular
from engine.wording import did_you_mean, near_path, quantity, some_of

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")

ARRAY_ENDINGS = (".npy",)

TOOL_FOLDERS = (
    "@eaDir", "@Recycle", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information", "__MACOSX",
    "__pycache__", "lost+found",
)  # fmt: skip

TOOL_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "zbthumbnail.info")  # in lower case


def no_folder(root: Path) -> str:
    """What is said first where data.root is no folder: the nearest one, or the key of a pack."""
    if root.suffix == ".h5" and root.is_file():
        return f"data.root: {root} is no folder; a pack needs data.format=packed."
    return f"data.root: no folder {root}.{near_path(root)}"


def root_with(root: str | Path, inside: str, layout: str) -> Path:
    """The root, after checking that it holds the folder `inside`.

    Raises:
        DataError: it does not; a folder below that does is suggested.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"{no_folder(folder)} It should hold {inside}; type data.root=<its folder>.")
    if not (folder / inside).is_dir():
        below = [path for up in ("*", "*/*") for path in sorted(folder.glob(f"{up}/{inside}"))]
        right = below[0].parents[len(Path(inside).parts) - 1] if below else None
        hint = f"Did you mean data.root={right}?" if right else "Type data.root=<its folder>."
        raise DataError(
            f"data.root: {folder} is not in {layout} layout, {folder / inside} is missing. {hint}"
        )
    return folder


def names_in(folder: Path) -> set[str]:
    """The names in a folder; none if it does not exist."""
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return set()


def folders_in(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted."""
    return sorted(name for name in names_in(folder) if (folder / name).is_dir())


def is_of_a_tool(name: str) -> bool:
    """Whether a folder or file belongs to a tool, as .ipynb_checkpoints or Thumbs.db, and not to the data."""
    return name.startswith(".") or name in TOOL_FOLDERS or name.lower() in TOOL_FILES


def images_below(folder: Path, endings: Sequence[str] = IMAGE_ENDINGS) -> list[Path]:
    """Images in a folder and its sub-folders, sorted; hidden files and folders of tools are left out.

    A folder without images may hold arrays instead, for data.bands.
    """

    def stop(error: OSError) -> None:
        raise error

    top = Path(os.path.realpath(folder))
    found, seen = [], set(map(str, top.parents))
    for where, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        seen.add(os.path.realpath(where))
        # A link that leads back, or to what the folder lies in, is not followed.
        folders[:] = sorted(
            name
            for name in folders
            if not is_of_a_tool(name) and os.path.realpath(os.path.join(where, name)) not in seen
        )
        paths = (Path(where, name) for name in names if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in (*endings, *ARRAY_ENDINGS)]
    return sorted([path for path in found if path.suffix.lower() in endings] or found)


def left_out(folders: Iterable[Path]) -> dict[Path, int]:
    """What is passed over: files of tools in `folders`, and folders of tools with their number of images."""

    def num_images(folder: Path) -> int:
        files = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
        return sum(path.is_file() for path in files)

    paths = (folder / name for folder in folders for name in sorted(names_in(folder)) if is_of_a_tool(name))
    found = {path: num_images(path) if path.is_dir() else 1 for path in paths}
    return {path: count for path, count in found.items() if count}


class FileFinder:
    """Finds files whose names differ from what a list says: in the form of an accent, or in letter case.

    Each folder is listed once.
    """

    def __init__(self) -> None:
        self._names: dict[Path, set[str]] = {}
        self._forms: dict[Path, dict[str, str]] = {}

    def find(self, path: Path) -> Path | None:
        """The file itself, else one of the same name in another form; None where there is neither."""
        folder = path.parent
        if folder not in self._names:
            self._names[folder] = names_in(folder)
        if path.name in self._names[folder]:
            return path
        if folder not in self._forms:
            self._forms[folder] = {_form(name): name for name in sorted(self._names[folder])}
        name = self._forms[folder].get(_form(path.name))
        return folder / name if name else None


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()  # macOS writes an accent as a character of its own


def same_names(images: Path, masks: Path, mask_suffix: str = "") -> list[Pair]:
    """A pair for each image in `images`: its mask is <stem><mask_suffix>.png.

    Raises:
        DataError: no image, two with the same stem, or masks missing.
    """
    names = sorted(n for n in names_in(images) if n[:1] != "." and Path(n).suffix.lower() in IMAGE_ENDINGS)
    if not names:
        raise DataError(f"The split is empty: {images} holds no image.")
    finder = FileFinder()
    wanted = [masks / f"{Path(name).stem}{mask_suffix}.png" for name in names]
    pairs = [
        Pair(Path(name).stem, images / name, finder.find(mask) or mask)
        for name, mask in zip(names, wanted, strict=True)
    ]
    require_different_ids(pairs, str(images))
    require_files(pairs)
    return pairs


def require_different_ids(pairs: Sequence[Pair], where: str) -> None:
    """Raises DataError where two images have the same id."""
    twice = sorted(id for id, uses in Counter(pair.id for pair in pairs).items() if uses > 1)
    if twice:
        raise DataError(
            f"{quantity(len(twice), 'id belongs', 'ids belong')} to more than one image of {where}: "
            f"{first_few(twice)}. "
            "Keep one image per id; images that differ only in their extension have the same id."
        )


def require_files(pairs: Sequence[Pair]) -> None:
    """Raises DataError with the number and the first few of the missing images or masks."""
    require_present("image", [pair.image for pair in pairs])
    require_present("mask", [pair.mask for pair in pairs])


def require_present(what: str, paths: Sequence[Path]) -> None:
    """Raises DataError with the number and the first few of the missing files."""
    there = {folder: names_in(folder) for folder in {path.parent for path in paths}}
    missing = [str(path) for path in paths if path.name not in there[path.parent]]
    if missing:
        are_missing = some_of(len(missing), len(paths), f"{what} file", "is", "are")
        raise DataError(
            f"{are_missing} missing: {first_few(missing)}. Put them there, or take them out of the split or "
            "the annotations."
        )


def ids_in_list(path: Path) -> list[str]:
    """The ids in a text file, one per line; they may contain spaces.

    Raises:
        DataError: it cannot be read, is empty, or has an id twice.
    """
    require_regular(path)
    try:
        content = path.read_bytes()
        lines = content.decode(encoding_of(content)).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The list {path} cannot be read: {error}.") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise DataError(f"Split {path.stem!r} is empty: {path} names no image.")
    require_named_once(path, ids)
    return ids


def encoding_of(text: bytes) -> str:
    """UTF-16 where a text begins with its mark, or one of the first two bytes is zero; else UTF-8."""
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zero = text[:2].find(b"\0")
    return "utf-8-sig" if zero < 0 else ("utf-16-be", "utf-16-le")[zero]


def require_named_once(path: Path, ids: Sequence[str]) -> None:
    """Raises DataError where the list at `path` has an id twice."""
    twice = sorted(id for id, uses in Counter(ids).items() if uses > 1)
    if twice:
        raise DataError(f"{path} names {first_few(twice)} more than once; keep one line per image.")


def no_split(split: str, missing: Path, there: Sequence[str]) -> DataError:
    """The error for a split that does not exist; it lists those that do."""
    return DataError(
        f"No split {split!r}: {missing} is missing. Splits there: {', '.join(there) or 'none'}."
        f"{did_you_mean(split, there)}"
    )
