"""trident prepare voc2012 | coco2017 | pack | masks: public data sets, data as one file, masks as PNG."""

import argparse
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.command import add_recipe, new_console, new_parser, recipe_file, run_command, run_subcommand
from engine.wording import quantity

if TYPE_CHECKING:
    from engine.data.downloads.preparation import Preparation

LISTING = """
  voc2012    PASCAL VOC 2012 and the masks of SBD, with the list trainaug (3.4 GB to download)
  coco2017   COCO 2017: photos, instances and stuff maps (21 GB to download)
  pack       the splits of a recipe as one file, checked by SHA-256
  masks      the masks of a recipe, or of a folder, as PNG files beside copies of the images
"""
ABOUT_DOWNLOADS = """
Existing files are checked and kept; after an interruption the same command continues where it stopped. An
archive that cannot be downloaded from here can be placed by hand in <root>/archives, or on another server
(--mirror).
"""


EXAMPLES_OF_PACK = """
examples:
  trident prepare pack b2_ce_dice --out voc.h5 data.root=data/VOCdevkit/VOC2012
  trident prepare pack b2_ce_dice --out voc.h5 --layout decoded --shard-size 2GB
  trident run b2_ce_dice data.format=packed data.root=voc.h5
"""
EXAMPLES_OF_MASKS = """
examples:
  trident prepare masks mine.yaml --out mine_masks
  trident prepare masks data/labelme --out mine_masks       a folder, without a recipe

Written are images/<split>, masks/<split> and classes.txt; docs/polygons.md says what is drawn over what.
"""
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 wrong input, 1 a server or the network failed, or it was interrupted."""
    about = "Download public data sets, or pack data into one file."
    return run_subcommand("prepare", about, LISTING, SUBCOMMANDS, argv)


def voc2012(argv: list[str]) -> int:
    """Download VOC2012 and SBD, write the masks of SBD and the list trainaug."""
    parser = _download_parser("voc2012", "Download PASCAL VOC 2012 and SBD.", "data/VOCdevkit/VOC2012")

    def body(arguments: argparse.Namespace) -> int:
        from engine.data.downloads.voc2012 import prepare_voc2012

        return _prepare(prepare_voc2012, arguments)

    return run_command(parser, body, argv)


def coco2017(argv: list[str]) -> int:
    """Download COCO 2017."""
    parser = _download_parser("coco2017", "Download COCO 2017.", "data/coco")

    def body(arguments: argparse.Namespace) -> int:
        from engine.data.downloads.coco2017 import prepare_coco2017

        return _prepare(prepare_coco2017, arguments)

    return run_command(parser, body, argv)


def _download_parser(name: str, what: str, root: str) -> argparse.ArgumentParser:
    parser = new_parser(f"prepare {name}", what, ABOUT_DOWNLOADS)
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(root),
        metavar="DIR",
        help=f"the folder of the data set itself, for data.root in recipes (default {root})",
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="download each archive from URL/<its name> instead of its public server",
    )
    return parser


def _prepare(prepare: Callable[["Preparation"], None], arguments: argparse.Namespace) -> int:
    from engine.data.downloads.preparation import Preparation
    from engine.reporting.transfers import tracked
    from engine.run_folder import require_folder

    root = arguments.root
    require_folder(root, "--root")
    console = new_console()
    prepare(
        Preparation(
            root,
            lambda what, unit: tracked(console, what, unit),
            lambda line: console.print(line, markup=False),
            arguments.mirror,
        )
    )
    return 0


def pack(argv: list[str]) -> int:
    """Pack the splits of a recipe."""
    parser = new_parser(
        "prepare pack",
        "Write the splits that a recipe names (train, val, select) as one file, or as shards. Every image is "
        "decoded, so a damaged one is found now.",
        EXAMPLES_OF_PACK,
    )
    add_recipe(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="such as voc.h5")
    parser.add_argument(
        "--layout",
        choices=["encoded", "decoded"],
        default="encoded",
        help="encoded: as small as the files (default); decoded: raw pixels, read without decoding",
    )
    parser.add_argument(
        "--shard-size",
        type=_num_bytes,
        metavar="SIZE",
        help="write several files of at most this size, such as 2GB; data.root is still the --out name",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a pack of this name")
    return run_command(parser, _pack, argv)


def masks(argv: list[str]) -> int:
    """Write the masks of a recipe or a folder as PNG files."""
    parser = new_parser(
        "prepare masks",
        "Write the masks that Trident trains on as PNG files of label ids, beside copies of the images. "
        "Polygons of LabelMe, YOLO, CVAT, Label Studio and COCO are drawn.",
        EXAMPLES_OF_MASKS,
    )
    add_recipe(parser, "a recipe file, the name of one that comes with Trident, or a folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    return run_command(parser, _masks, argv)


SUBCOMMANDS: dict[str, Callable[[list[str]], int]] = {
    "voc2012": voc2012,
    "coco2017": coco2017,
    "pack": pack,
    "masks": masks,
}


def _masks(arguments: argparse.Namespace) -> int:
    from engine.data import DataError, open_split
    from engine.data.options import Data
    from engine.data.sample import require_one_class_a_pixel
    from engine.data.sets import require_one_set
    from engine.data.survey import survey
    from engine.recipe import load_recipe
    from engine.reporting.console import counted
    from engine.reporting.mask_files import write_masks
    from engine.run_folder import require_folder

    out: Path = arguments.out
    if out.exists():
        raise DataError(f"{out} exists already, and nothing is overwritten. Type --out=<a new folder>.")
    require_folder(out, "--out")
    console = new_console()
    folder = Path(arguments.recipe).expanduser()
    if folder.is_dir():
        if arguments.overrides:
            raise DataError(
                "With a folder no value can be overridden. First type: "
                f"trident new {shlex.quote(arguments.recipe)}"
            )
        data = Data.model_validate(survey(folder, counted(console, "reading")).section)
    else:
        data = load_recipe(recipe_file(arguments.recipe), arguments.overrides).data
    require_one_set(data, "prepare masks")
    require_one_class_a_pixel(data, "A file of label ids", "Its masks are files of masks already.")
    names = dict.fromkeys(name for name in (data.train, data.val, data.select) if name)
    splits = {name: open_split(data, name) for name in names}
    num_masks = write_masks(splits, out, counted(console, "drawing"))
    console.print(
        f"written: {out}, {quantity(num_masks, 'mask')}. To train on them: trident new "
        f"{shlex.quote(str(out))}",
        markup=False,
        soft_wrap=True,
    )
    return 0


def _pack(arguments: argparse.Namespace) -> int:
    from engine.data import open_split
    from engine.data.packs.pack import require_unused, write_pack
    from engine.data.packs.packed import read_shards
    from engine.data.ranges import with_range
    from engine.data.sets import require_one_set
    from engine.recipe import load_recipe
    from engine.reporting.console import counted
    from engine.run_folder import require_reachable

    out = arguments.out
    require_reachable(out, "--out")
    require_unused(out, arguments.overwrite)
    data = load_recipe(recipe_file(arguments.recipe), arguments.overrides).data
    require_one_set(data, "prepare pack")
    splits = {data.train: open_split(data, data.train)}
    data = with_range(data, splits[data.train])
    splits |= {
        name: open_split(data, name) for name in (data.val, data.select) if name and name not in splits
    }
    console = new_console()
    paths = write_pack(
        splits,
        out,
        arguments.layout,
        arguments.shard_size,
        arguments.overwrite,
        lambda what: counted(console, what),
    )
    read_shards(out)  # as a run does
    for path in paths:
        console.print(f"written: {path}  {path.stat().st_size / 1e6:,.1f} MB", markup=False)
    counts = ", ".join(f"{name} {len(dataset)}" for name, dataset in splits.items())
    select = f" data.select={shlex.quote(data.select)}" if data.select else ""
    console.print(
        f"Images: {counts}. To train on it: data.format=packed data.root={shlex.quote(str(out))} "
        f"data.train={shlex.quote(data.train)} data.val={shlex.quote(data.val)}{select}",
        markup=False,
    )
    return 0


def _num_bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]B)", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; type a number and a unit, such as 2GB")
    return int(float(found[1]) * UNITS[found[2].upper()])


if __name__ == "__main__":
    raise SystemExit(main())
