"""Files that are no images and no masks: what they are, and how they become some."""

import re
from collections.abc import Iterator
from pathlib import Path

from engine.data.formats.listing import is_of_a_tool
from engine.wording import quantity

MOST_BYTES = 1 << 16  # of a file, which are looked at
YOLO = re.compile(r"\d+( +-?[\d.]+){4,}")  # a class and numbers: a box, or a polygon with six or more
AS_MASKS = "Export masks from the program that made them (PNG with the ids of the classes)"
KINDS = {  # ending -> (pattern in the file, what it is, what to do)
    ".json": (
        (r'"shapes"\s*:', "polygons of labelme",
         "Trident reads them with their images beside them: data.format: labelme (docs/polygons.md)."),
        (r'"_via_|"regions"\s*:', "polygons of the VGG Image Annotator", f"{AS_MASKS}, or COCO."),
        (r'"exterior"\s*:|"classTitle"\s*:', "polygons of Supervisely", f"{AS_MASKS}."),
        (r'^\s*\[(?s:.)*"annotations"\s*:', "Label Studio",
         "Trident reads annotated tasks, next to images/: data.format: label_studio (docs/polygons.md)."),
        (r'"(images|annotations|categories)"\s*:\s*\[', "COCO",
         "Trident reads annotations/instances_<split>.json with the photos in <split>, or a single file next "
         "to the folder images: move them so."),
    ),
    ".xml": (
        (r"<annotations>", "CVAT",
         "Trident reads annotations.xml with images/: data.format: cvat (docs/polygons.md)."),
        (r"<bndbox>", "boxes of PASCAL VOC", "Boxes alone are no masks."),
    ),
}  # fmt: skip
OTHERS = {  # ending -> what to do
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"), "Unpack them."),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv"), "Save the frames that have masks as images."),
    **dict.fromkeys((".parquet", ".mat"), "Save the images and masks in them as files, such as PNG."),
    **dict.fromkeys((".nii", ".dcm"), "Save each slice as a file of its own, such as PNG."),
    ".npz": "Save each array in them with numpy.save, as .npy.",
}  # fmt: skip


def annotations_below(root: Path) -> list[str]:
    """A line for each kind of file that is there: their number, one of them, and what to do."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in _files(root):
        kind = _kind(path)
        if kind:
            found.setdefault(kind, []).append(path)
    return [
        f"{quantity(len(paths), 'file')} of {what}, such as {paths[0]}. {remedy}"
        for (what, remedy), paths in found.items()
    ]


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        is_known = path.suffix.lower() in (*KINDS, *OTHERS, ".txt") and path.is_file()
        if is_known and not any(map(is_of_a_tool, path.relative_to(root).parts)):
            yield path


def _kind(path: Path) -> tuple[str, str] | None:
    ending = path.suffix.lower()
    if ending in OTHERS:
        return f"the kind {ending}", OTHERS[ending]
    with path.open("rb") as file:
        text = file.read(MOST_BYTES).decode("utf-8", "replace")
    if ending == ".txt":
        lines = [line for line in text.splitlines() if line.strip()]
        if lines and all(YOLO.fullmatch(line.strip()) for line in lines):
            if any(len(line.split()) > 6 for line in lines):
                return "polygons of YOLO", (
                    "Trident reads data.yaml with images/ and labels/: data.format: yolo (docs/polygons.md)."
                )
            return "boxes of YOLO", "Boxes alone are no masks."
        return None
    matching = (kind for kind in KINDS[ending] if re.search(kind[0], text))
    return next(((what, remedy) for _, what, remedy in matching), None)
