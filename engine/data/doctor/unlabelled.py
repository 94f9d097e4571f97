"""Checks of images without masks (`data.unlabelled`): can each be read, and is it no other image?"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from engine.data.doctor.findings import HURTS, SPOILS, DataFinding, finding
from engine.data.doctor.image_facts import read_image
from engine.data.doctor.listing import Listing
from engine.data.formats.files import FileDataset
from engine.data.overlap import shared_images
from engine.data.sample import OR_SKIP
from engine.wording import quantity, some_of


def check_unlabelled(listing: Listing) -> Iterator[DataFinding]:
    """What is wrong with the unlabelled images of a recipe."""
    dataset = listing.unlabelled
    if dataset is None:
        return
    paths = [dataset.image_path(index) for index in range(len(dataset))]
    with ThreadPoolExecutor() as pool:
        facts = pool.map(lambda path: read_image(path, listing.bands).problem, paths)
        problems = {path: problem for path, problem in zip(paths, facts, strict=True) if problem}
    if problems:
        may_skip = listing.may_skip and len(problems) < len(paths)
        first = next(iter(problems.values())).replace(OR_SKIP, "").removesuffix(".")
        yield finding(
            "damaged",
            HURTS if may_skip else SPOILS,
            f"{quantity(len(problems), 'unlabelled image')} cannot be read. {first}",
            "Training leaves them out." if may_skip else "Training stops at the first one.",
            _remedy(listing.may_skip, len(problems) == len(paths)),
            [*problems],
        )
    for split in filter(listing.opened.__contains__, listing.scored):
        if ids := shared_images(dataset, listing.opened[split]):
            yield finding(
                "leak",
                HURTS,
                f"{some_of(len(ids), len(dataset), 'unlabelled image', 'is', 'are')} also in {split}",
                "The model learns from these pixels, although not from their labels: the score on "
                f"{split} is too high for images that it has not seen.",
                "Take them out of the folder or the list of data.unlabelled.",
                sorted(ids),
            )
    if ids := _of_training(dataset, listing):
        have_all = len(ids) == len(dataset)
        yield finding(
            "labelled",
            SPOILS if have_all else HURTS,
            f"{some_of(len(ids), len(dataset), 'unlabelled image', 'is', 'are')} also in {listing.train}",
            "They are trained on with their masks; no further image is learnt from in these places.",
            "data.unlabelled=null"
            if have_all
            else "Take them out of the folder or the list of data.unlabelled.",
            sorted(ids),
        )
    masks = {mask.resolve() for sample in listing.samples for mask in sample.mask_files}
    if drawn := [path for path in paths if path.resolve() in masks]:
        yield finding(
            "masks_as_images",
            SPOILS,
            f"{some_of(len(drawn), len(dataset), 'unlabelled image', 'is a mask', 'are masks')} of the data",
            "The model would learn from drawn labels as if they were photos.",
            "data.unlabelled.root=<the folder of the images alone>",
            drawn,
        )


def _remedy(may_skip: bool, are_all: bool) -> str:
    if are_all:
        return "Replace them, or train without: data.unlabelled=null"
    return "Replace or remove them." if may_skip else "Replace or remove them; or data.on_error=skip"


def _of_training(dataset: FileDataset, listing: Listing) -> set[str]:
    train = listing.opened.get(listing.train)
    return shared_images(dataset, train) if train and listing.train not in listing.scored else set()
