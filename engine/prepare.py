"""python -m engine.prepare voc2012 | coco2017: a public data set, in the layout that recipes read."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from engine.command import new_parser, run_command

LISTING = """
  voc2012    PASCAL VOC 2012 and the masks of SBD, with the list trainaug (3.4 GB to download)
  coco2017   COCO 2017: photos, instances and stuff maps (21 GB to download)
"""
ABOUT_DOWNLOADS = """
What is there already is checked and stays; the same command after a stop goes on where it was. An archive
that cannot be fetched from here can be placed by hand in <root>/archives, or below an address of your own
(--mirror).
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong, 1 a server or the network failed, or it was stopped."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in SUBCOMMANDS:
        return SUBCOMMANDS[argv[0]](argv[1:])
    parser = new_parser(
        "prepare",
        "Bring data into the layout that recipes read.",
        f"{LISTING}\npython -m engine.prepare WHAT --help",
    )
    parser.add_argument("what", metavar="WHAT", choices=SUBCOMMANDS, help=f"one of {', '.join(SUBCOMMANDS)}")
    return run_command(parser, lambda arguments: SUBCOMMANDS[arguments.what](["--debug"]), argv)


def voc2012(argv: list[str]) -> int:
    """Download VOC2012 and SBD, write the masks of SBD and the list trainaug."""
    parser = _download_parser("voc2012", "Download PASCAL VOC 2012 and SBD.", "data/VOCdevkit/VOC2012")

    def body(arguments: argparse.Namespace) -> int:
        from engine.data.voc2012 import prepare_voc2012

        return _prepare(prepare_voc2012, arguments)

    return run_command(parser, body, argv)


def coco2017(argv: list[str]) -> int:
    """Download COCO 2017."""
    parser = _download_parser("coco2017", "Download COCO 2017.", "data/coco")

    def body(arguments: argparse.Namespace) -> int:
        from engine.data.coco2017 import prepare_coco2017

        return _prepare(prepare_coco2017, arguments)

    return run_command(parser, body, argv)


SUBCOMMANDS: dict[str, Callable[[list[str]], int]] = {"voc2012": voc2012, "coco2017": coco2017}


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
        "--mirror", metavar="URL", help="fetch each archive from URL/<its name> instead of its home"
    )
    return parser


def _prepare(prepare: Callable, arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from engine.data.preparation import Preparation
    from engine.reporting.transfers import tracked

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    prepare(
        Preparation(
            arguments.root.expanduser(),
            lambda what, unit: tracked(console, what, unit),
            lambda line: console.print(line, markup=False),
            arguments.mirror,
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
