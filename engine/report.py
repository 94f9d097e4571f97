"""trident report FOLDER ...: runs side by side, and each in detail, on one page."""

import argparse
from pathlib import Path

from engine.command import new_console, new_parser, paths_and_overrides, run_command
from engine.wording import quantity

EXAMPLES = """
examples:
  trident report checkpoints/
  trident report checkpoints/b2_ce checkpoints/b2_adv --out compared.html
  trident report checkpoints/b2_adv data.root=/elsewhere/VOC2012 --images 25
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong."""
    parser = new_parser(
        "report",
        "Find every run below the folders and write one page about them that needs no network. The worst and "
        "the best images of each run are predicted again.",
        EXAMPLES,
    )
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="folder | key.path=value",
        help="folders of runs; recipe values, such as data.root",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: report.html in the folder; replaced)"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=4,
        metavar="N",
        help="number of worst, and of best, images of each run (default 4)",
    )
    return run_command(parser, report, argv)


def report(arguments: argparse.Namespace) -> int:
    """Find the runs, predict their images again, write the page."""
    named, overrides = paths_and_overrides(arguments.folders)
    folders = [Path(text) for text in named]

    from engine.run_folder import RunFolderError, common_folder, find_runs, require_reachable

    ignored = [text for text in overrides if not text.startswith("data.")]
    if ignored:
        raise RunFolderError(
            f"{ignored[0]}: a report shows runs as they are. Only the place of their data can be set here "
            "(data.root=...)."
        )
    if not folders:
        raise RunFolderError("No folder was named; type trident report checkpoints/")
    if arguments.images < 0:
        raise RunFolderError(f"--images {arguments.images}: a number from 0 on was expected.")
    runs = find_runs(*folders)
    out = arguments.out or common_folder(folders) / "report.html"
    require_reachable(out, "--out")
    if out.is_dir():
        raise RunFolderError(f"--out {out} is a folder. Name a file, such as {out / 'report.html'}")

    import torch
    from rich.markup import escape

    from engine.reporting.console import counted
    from engine.reporting.report import Gallery, open_gallery, read_runs, write_report

    console = new_console()
    contents = read_runs(runs)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    galleries = {}
    for content in contents if arguments.images else []:
        path = content.run.path
        try:
            bar = counted(console, f"images of {path.name}")
            galleries[path] = open_gallery(content, arguments.images, device, overrides, bar)
        except ValueError as error:
            if not hasattr(error, "exit_code"):
                raise
            console.print(f"No images of {escape(str(path))}: {escape(str(error))}")
            galleries[path] = Gallery(why_empty=f"They cannot be shown: {error}")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_report(contents, out, galleries)
    console.print(f"{quantity(len(runs), 'run')}, {out.stat().st_size / 1e6:.1f} MB: {escape(str(out))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
