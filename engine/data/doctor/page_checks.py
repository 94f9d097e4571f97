"""Files of several pages or frames, of which only the first is read."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.data.doctor.findings import HURTS, DataFinding, finding
from engine.data.doctor.scan import Facts
from engine.data.formats.images import num_pages
from engine.data.sample import UnreadableSample, read_all
from engine.wording import some_of


def check_pages(facts: Facts) -> Iterator[DataFinding]:
    """Images and masks of several pages, such as stacks of slices; with data.bands pages are bands."""
    samples = facts.listing.samples
    images = () if facts.listing.bands else [sample.image for sample in samples if sample.image]
    masks = [sample.mask for sample in samples if sample.mask]
    for what, files in (("image", images), ("mask", masks)):
        several = _with_several(files)
        if not several:
            continue
        number = next(iter(several.values()))
        or_bands = ""
        if what == "image":
            or_bands = f"; or data.bands={number}, if the pages are bands of one image"
        yield finding(
            "pages",
            HURTS,
            f"{some_of(len(several), len(set(files)), what, 'has', 'have')} several pages or frames, the "
            f"first of these {number}",
            "Only the first page is trained on and scored; the others are not used.",
            f"Save each page as a file of its own, of the image and of its mask{or_bands}.",
            [*several],
        )


def _with_several(files: Iterable[Path]) -> dict[Path, int]:
    """File -> number of its pages, where there are several."""
    once = list(dict.fromkeys(files))

    def pages_of(index: int) -> int:
        try:
            return num_pages(once[index])
        except UnreadableSample:  # a finding of its own
            return 1

    numbers = read_all(pages_of, range(len(once)), lambda done, total: None)
    return {file: number for file, number in zip(once, numbers, strict=True) if number > 1}
