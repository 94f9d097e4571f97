"""trident predict RUN_OR_ENSEMBLE IMAGES... --out DIR: label maps, overlays, probabilities."""

import argparse
import shlex
import sys
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.command import add_tiling, new_console, new_parser, paths_and_overrides, run_command
from engine.wording import quantity, some_of

if TYPE_CHECKING:
    from rich.console import Console

    from engine.data.inputs import InputImage
    from engine.scoring.segmenter import Segmenter
    from engine.scoring.tiles import Tiling

KINDS = ("labels", "overlay", "confidence", "probabilities", "polygons", "areas")
OF_ALL = {"probabilities": ".h5", "areas": ".json"}  # kinds with one file for all images
EXAMPLES = """
examples:
  trident predict checkpoints/b2_adv photo.jpg holiday/ "more/**/*.png" --out predicted
  trident predict checkpoints/b2_adv holiday/ --out predicted --save labels,confidence,probabilities
  trident predict checkpoints/b2_adv holiday/ --out predicted eval.flip=true eval.scales=[0.75,1]
  trident predict checkpoints/b2_adv city.tif --out predicted --tile 1024 --overlap 128 --polygons

labels          DIR/labels/<name>.png: class ids, a palette PNG
overlay         DIR/overlay/<name>.jpg: colours over the image, and legend.png
confidence      DIR/confidence/<name>.png: the probability of the predicted class, 0 black, 1 white
probabilities   DIR/probabilities.h5: (classes, h, w) float16 of each image
polygons        DIR/polygons/<name>.geojson: connected parts of each class, in longitude and latitude if the
                image has a georeference, else in pixels

areas           DIR/areas.json: pixels of each class on each image

With --uncertainty, where the members of an ensemble disagree: DIR/uncertainty/<name>.png (mutual information,
its colours in DIR/uncertainty_scale.png), DIR/votes/<name>.png (the share of members with that label) and
DIR/uncertainty.h5.

Where classes may overlap (data.labels: multi), labels are DIR/labels/<class>/<name>.png, 1 where the
class is. There is no confidence.

With --tile, images of any size are predicted by overlapping tiles, which are blended: labels and confidence
are TIFF files with the georeference of the image, the overlay is reduced to 2,048 px, and there are no
probabilities.

All have the size of the image, rotated as its EXIF orientation says. Names keep the folders
below the one that all images share. An image that cannot be read is named and left out, with exit code 1.
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 some images could not be read, 2 the input is wrong."""
    parser = new_parser("predict", "Predict images with a run, a checkpoint or a saved ensemble.", EXAMPLES)
    parser.add_argument("trained", type=Path, help="a run, a file of its top/, or the folder of an ensemble")
    parser.add_argument(
        "images", nargs="+", metavar="image | folder | glob | key.path=value", help="images; recipe values"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the files")
    parser.add_argument(
        "--save", type=_kinds, default=["labels", "overlay"], metavar="KIND,...",
        help=f"what to write, of {', '.join(KINDS)} (default labels,overlay)",
    )  # fmt: skip
    add_tiling(parser)
    parser.add_argument("--polygons", action="store_true", help="write polygons too")
    parser.add_argument(
        "--uncertainty", action="store_true", help="write where the members of an ensemble disagree too"
    )
    parser.add_argument("--step", type=int, help="step of a run's kept checkpoint (default: the best one)")
    parser.add_argument("--overwrite", action="store_true", help="replace files of an earlier prediction")
    return run_command(parser, predict, argv)


@dataclass(frozen=True)
class _Job:
    """What is predicted, and what is written of it."""

    images: "list[InputImage]"
    out: Path
    kinds: list[str]
    tiling: "Tiling | None"
    overrides: list[str]


def predict(arguments: argparse.Namespace) -> int:
    """Find the images, predict one after another, write."""
    job = _job(arguments)

    from engine.data.inputs import note_on_pages
    from engine.data.mask_folders import without_masks
    from engine.data.ranges import told_of_unused_range
    from engine.scoring.overrides import told_of_no_effect
    from engine.scoring.segmenter import open_segmenter

    segmenter = open_segmenter(arguments.trained, None, job.overrides, arguments.step)
    images, on_masks = without_masks(job.images, segmenter.trained.recipe.data)
    job = replace(job, images=images)
    _require_possible(arguments, job, segmenter)
    console, protocol, tiling = new_console(), segmenter.protocol, job.tiling
    of_tiles = f", tiles of {tiling.side} px that overlap by {tiling.overlap} px" if tiling else ""
    console.print(
        f"{segmenter.name}: {quantity(len(job.images), 'image')}, protocol {protocol.name}, scales "
        f"{list(protocol.scales)}{', flipped too' * protocol.flip}{of_tiles}",
        markup=False,
    )
    without_effect = told_of_no_effect(job.overrides, [protocol.name], "only images that are named are read")
    without_effect += told_of_unused_range(job.overrides, [image.path for image in job.images])
    if on_masks:
        on_masks += " To use them too, type that folder, or those files, as further inputs."
    for line in [on_masks] * bool(on_masks) + without_effect:
        console.print(line, markup=False)
    left_out, several = _write(arguments, job, segmenter, console)
    if several:
        console.print(note_on_pages(several), markup=False)
    is_any_read = len(left_out) < len(job.images)
    of_all = [job.out / f"{kind}{OF_ALL[kind]}" for kind in job.kinds if kind in OF_ALL]
    of_all += [job.out / "uncertainty.h5"] * arguments.uncertainty
    for path in () if is_any_read else filter(Path.exists, of_all):
        console.print(f"{path} is that of an earlier prediction.", markup=False)
    for kind in job.kinds if is_any_read else ():
        console.print(f"written: {job.out / kind}{OF_ALL.get(kind, '/')}", markup=False)
    if arguments.uncertainty and is_any_read:
        maps = f"{job.out / 'uncertainty'}/, {job.out / 'votes'}/, uncertainty.h5"
        console.print(f"written: {maps}", markup=False)
    if left_out:
        how_many = some_of(len(left_out), len(job.images), "image", "was", "were")
        print(f"{how_many} left out:", *left_out, sep="\n  ", file=sys.stderr)
    return 1 if left_out else 0


def _job(arguments: argparse.Namespace) -> _Job:
    """What the arguments ask for, before a model is opened.

    Raises:
        DataError, TilingError: no image is there, or kinds exclude each other.
    """
    inputs, overrides = paths_and_overrides(arguments.images)
    out: Path = arguments.out

    from engine.data.inputs import input_images
    from engine.data.rasters import require_geo
    from engine.data.sample import DataError
    from engine.run_folder import require_folder

    require_folder(out, "--out")
    if not inputs:
        raise DataError("No image was named. Add files, folders or globs after the run.")
    polygons = ["polygons"] * (arguments.polygons and "polygons" not in arguments.save)
    kinds = [*arguments.save, *polygons]
    tiling = _tiling(arguments, kinds)
    if tiling and arguments.uncertainty:
        raise DataError("--uncertainty needs whole images: leave --tile out.")
    images = input_images(inputs, out)
    if tiling or "polygons" in kinds:
        require_geo()
    return _Job(images, out, kinds, tiling, overrides)


def _require_possible(arguments: argparse.Namespace, job: _Job, segmenter: "Segmenter") -> None:
    """Raises DataError where a model has not what is to be written, files would be replaced, or the images
    have other bands."""
    from engine.data.formats.bands import image_header
    from engine.data.sample import UnreadableSample
    from engine.reporting.predictions import files_of
    from engine.reporting.uncertainty import uncertainty_files

    if arguments.uncertainty:
        _require_members(arguments.trained, len(segmenter.trained.members), segmenter.kind.is_multi)
    if segmenter.kind.is_multi:
        _require_kinds_of_masks(arguments, job.kinds)
    if not arguments.overwrite:
        classes = segmenter.class_names if segmenter.kind.is_multi else ()
        files = files_of(job.images, job.out, job.kinds, job.tiling is not None, classes)
        _require_new(files + (uncertainty_files(job.images, job.out) if arguments.uncertainty else []))
    for image in job.images if segmenter.bands else ():
        with suppress(UnreadableSample):  # reported later
            image_header(image.path, segmenter.bands)


def _write(
    arguments: argparse.Namespace, job: _Job, segmenter: "Segmenter", console: "Console"
) -> tuple[list[str], dict[Path, int]]:
    """Predict and write each image; why some are left out, and the number of pages where it is several."""
    import torch

    from engine.data.inputs import several_pages
    from engine.data.sample import UnreadableSample
    from engine.reporting.console import counted
    from engine.reporting.predictions import prediction_writer
    from engine.reporting.tiled_predictions import predict_tiles
    from engine.reporting.uncertainty import uncertainty_writer
    from engine.scoring.disagreement import most_bits

    out, kinds, names = job.out, job.kinds, segmenter.class_names
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    about = {"model": segmenter.name, "protocol": segmenter.protocol.card()}
    members, show, left_out = list(segmenter.trained.members), counted(console, "predicting"), list[str]()
    most, several = most_bits(len(members), len(names)), dict[Path, int]()
    maps = uncertainty_writer(out, members, most, about) if arguments.uncertainty else nullcontext()
    writer = prediction_writer(out, kinds, names, segmenter.palette, about, segmenter.bands)
    with writer as write, maps as compare:
        for done, image in enumerate(job.images, start=1):
            if segmenter.bands is None and (pages := several_pages(image)):  # else pages are bands
                several[image.path] = pages
            try:
                if job.tiling:
                    show_tiles = counted(console, f"tiles of {image.place}")
                    predict_tiles(segmenter, image, job.tiling, out, kinds, show_tiles)
                    continue
                pixels = segmenter.pixels(image.path)  # (n, h, w)
                if compare:
                    prediction, found = segmenter.predict_and_compare(pixels)
                    compare(image, found)
                else:
                    prediction = segmenter.predict(pixels)
                write(image, pixels, *prediction)
            except (UnreadableSample, torch.OutOfMemoryError) as error:
                by_tiles = _by_tiles(arguments, image.path, job.overrides, kinds)
                left_out.append(_reason(error, image.path, by_tiles))
            show(done, len(job.images))
    if is_new and len(left_out) == len(job.images):
        with suppress(OSError):  # something was written before the image failed
            out.rmdir()
    return left_out, several


def _reason(error: Exception, image: Path, by_tiles: str) -> str:
    """Why an image was left out, and what to type.

    Args:
        error: UnreadableSample, TooLarge, which is one, or torch.OutOfMemoryError.
        by_tiles: the command that predicts it by tiles.
    """
    from engine.data.formats.images import REMEDY, TooLarge
    from engine.data.sample import UnreadableSample

    if isinstance(error, TooLarge):
        typed = f"{by_tiles}, or add {error.remedy} to this command."
        return f"{image} is too large to be predicted as a whole. Type {typed}"
    if isinstance(error, UnreadableSample):
        return str(error).removesuffix(f" {REMEDY}")
    return f"{image} needs more memory than the GPU has. Type {by_tiles}"


def _require_new(files: list[Path]) -> None:
    """Raises DataError where one of them exists."""
    from engine.data.sample import DataError

    if there := [path for path in files if path.exists()]:
        raise DataError(
            f"{there[0]} exists already{f', and {len(there) - 1} more' * (len(there) > 1)}. "
            "Name another folder with --out, or add --overwrite."
        )


def _require_kinds_of_masks(arguments: argparse.Namespace, kinds: list[str]) -> None:
    """Raises DataError for what is not written where classes may overlap."""
    from engine.data.sample import DataError

    left = [kind for kind in kinds if kind != "confidence"]
    if left != kinds:
        raise DataError(
            f"{arguments.trained} predicts classes that may overlap, which have no map of the "
            f"confidence. Type --save {','.join(left or ['labels'])}"
        )


def _require_members(trained: Path, num_members: int, is_multi: bool) -> None:
    """Raises DataError where there are no members that could disagree about the class of a pixel."""
    from engine.data.sample import DataError

    if is_multi:
        raise DataError(
            f"--uncertainty: {trained} predicts classes that may overlap, where no pixel has one class that "
            "members could vote for. Leave it out."
        )
    if (trained / "combination.json").is_file() and num_members < 2:
        raise DataError(
            f"--uncertainty: {trained} is one model, such as a mean of weights, and one cannot disagree. "
            "Save an ensemble of several, such as with --method mean."
        )
    if num_members < 2:
        folder = trained.parent.parent if trained.is_file() else trained
        save = shlex.join(["trident", "ensemble", str(folder), "--save", f"{folder}_ensemble"])
        raise DataError(
            f"--uncertainty: {trained} predicts with one model, and one cannot disagree. Save an ensemble "
            f"and predict with its folder: {save}"
        )


def _by_tiles(arguments: argparse.Namespace, image: Path, overrides: list[str], kinds: list[str]) -> str:
    """The command that predicts one image by tiles, into a folder of its own."""
    words = ["predict", str(arguments.trained), str(image), *overrides]
    words += ["--step", str(arguments.step)] if arguments.step is not None else []
    save = _kinds_of_tiles(kinds)
    words += ["--save", ",".join(save)] if save != ["labels", "overlay"] else []
    words += ["--out", f"{arguments.out}_tiles", "--tile", "1024"]
    return shlex.join(["trident", *words])


def _tiling(arguments: argparse.Namespace, kinds: list[str]) -> "Tiling | None":
    from engine.scoring.tiles import Tiling, TilingError

    tiling = Tiling.of(arguments.tile, arguments.overlap)
    if tiling and (OF_ALL.keys() & kinds or "labels" not in kinds):
        raise TilingError(
            "With --tile labels are always written, and probabilities and areas never. "
            f"Type --save {','.join(_kinds_of_tiles(kinds))}, or leave --tile out."
        )
    return tiling


def _kinds_of_tiles(kinds: list[str]) -> list[str]:
    """What --tile can write of these; always the labels."""
    return ["labels", *(kind for kind in kinds if kind != "labels" and kind not in OF_ALL)]


def _kinds(text: str) -> list[str]:
    kinds = list(dict.fromkeys(text.split(",")))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(KINDS)}")
    return kinds


if __name__ == "__main__":
    raise SystemExit(main())
