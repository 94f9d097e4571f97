"""trident board FOLDER ...: runs next to each other while they train, on a terminal or as a page."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.command import new_console, new_parser, run_command
from engine.run_folder import RunFolderError
from engine.wording import near_path

if TYPE_CHECKING:
    from engine.reporting.board.status import Board

PORT = 8300
EXAMPLES = """
examples:
  trident board checkpoints/                 # on the terminal; Ctrl-C ends it
  trident board checkpoints/ --once          # one table
  trident board checkpoints/ --serve         # a page on 127.0.0.1
  trident board checkpoints/ /other/runs --serve --port 8080

From the files of the runs alone, which it only reads: it can be started and ended at any time.
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong."""
    parser = new_parser("board", "Show the runs below folders while they train.", EXAMPLES)
    parser.add_argument("folders", nargs="+", type=Path, metavar="folder", help="folders of runs")
    parser.add_argument("--once", action="store_true", help="print one table and end; so without a terminal")
    parser.add_argument("--serve", action="store_true", help="show a page on 127.0.0.1 instead")
    parser.add_argument("--port", type=int, metavar="N", help=f"of the page (default {PORT}; 0: a free one)")
    parser.add_argument(
        "--every", type=float, default=2.0, metavar="S", help="seconds from one look to the next (default 2)"
    )
    return run_command(parser, board, argv)


def board(arguments: argparse.Namespace) -> int:
    """Look once, or again and again until Ctrl-C."""
    for folder in arguments.folders:
        if not folder.is_dir():
            raise RunFolderError(
                f"No folder {folder}.{near_path(folder)} Runs are written to checkpoints/, or where "
                "output.dir says."
            )
    if not 0.1 <= arguments.every <= 3600:
        raise RunFolderError(f"--every {arguments.every:g}: expected seconds, from 0.1 to 3600.")
    if arguments.once and (arguments.serve or arguments.port is not None):
        raise RunFolderError("--once prints a table, and --serve shows a page: leave one of them out.")

    from engine.reporting.board.status import Board

    runs = Board(arguments.folders)
    places = ", ".join(map(str, arguments.folders))
    none_yet = f"No run in {places} yet. Train one: trident run <recipe>"
    if arguments.serve or arguments.port is not None:
        return _serve(runs, arguments, none_yet)
    console = new_console()

    from engine.reporting.board.table import board_table

    if arguments.once or not sys.stdout.isatty():
        console.print(board_table(runs.look(), console.width, none_yet))
        return 0

    from rich.live import Live

    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(board_table(runs.look(), console.width, none_yet), refresh=True)
                time.sleep(arguments.every)
    except KeyboardInterrupt:
        return 0


def _serve(runs: "Board", arguments: argparse.Namespace, none_yet: str) -> int:
    from engine.reporting.board.page import new_server, render

    port = PORT if arguments.port is None else arguments.port
    if not 0 <= port <= 65535:
        raise RunFolderError(f"--port {port}: expected a number from 0 to 65535; 0 takes a free one.")
    try:
        server = new_server(port, lambda: render(runs.look(), arguments.folders, arguments.every, none_yet))
    except OSError as error:
        raise RunFolderError(
            f"--port {port} cannot be used ({error.strerror}). Type another one; --port=0 takes a free one."
        ) from None
    with server:
        print(f"http://127.0.0.1:{server.server_port}/ shows the runs; Ctrl-C ends it.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
