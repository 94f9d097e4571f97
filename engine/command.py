"""What all commands share: the parser, exit codes, the console, and `trident <command>` itself.

Imports nothing heavy, so that `--help` is fast.
"""

import argparse
import difflib
import importlib
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from engine import __version__, elsewhere
from engine.exit_codes import exit_code_and_message
from engine.output import Output, printable

if TYPE_CHECKING:
    from rich.console import Console

COMMANDS = {
    "new": "write a recipe for a folder of your own images and masks",
    "run": "train one recipe, keep the best checkpoints, ensemble them, report",
    "board": "show runs while they train, on a terminal or as a page",
    "recipes": "list the recipes that come with Trident, or print one to start from",
    "evaluate": "score a run or an ensemble under one protocol or several",
    "ensemble": "score the best checkpoints of finished runs, each and combined",
    "predict": "write label maps, overlays and probabilities of images",
    "serve": "predict images that are sent over HTTP, with a page to drop an image on",
    "compare": "train recipes with several seeds each, and report which is better, with intervals",
    "report": "write one page about runs, side by side and each in detail",
    "diagnose": "report what a run's curve and scores show, or which labels are suspicious",
    "lr_find": "try a range of learning rates on a recipe and suggest one",
    "prepare": "download a public data set, or pack data into one file",
    "doctor": "check images and masks, report errors, and repair them",
    "export": "write a model as ONNX, OpenVINO or torch.export, or its weights for other libraries",
    "benchmark": "measure speed and memory of Trident and of other libraries",
}

A_RECIPE = "a recipe file, or the name of one that comes with Trident"
LOG_WIDTH = 120  # columns
SPIN_COUNT = "5000"  # rounds of a loop in which a thread of torch waits before it sleeps


class _Parser(argparse.ArgumentParser):
    """Names Trident's word for a flag of another program, such as --epochs."""

    words: Sequence[str] = ()  # that are being parsed

    def parse_known_intermixed_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_intermixed_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        flags = [word.partition("=")[0] for word in self.words]
        foreign = [place for place, flag in enumerate(flags) if flag[:2] == "--" and not self._has(flag)]
        takes = ("",) if "recipe" in self.format_usage() else ("data.",)  # of a finished run only the place
        has_overrides = "key.path=value" in self.format_usage()
        if has_overrides and (meant := elsewhere.meant_by_flags(self.words, foreign, takes)):
            self.exit(2, f"{self.prog}: {meant}\n")
        if foreign:  # argparse counts what follows one as not recognised, or as missing
            message = f"no option {' or '.join(flags[place] for place in foreign)}"
            if close := difflib.get_close_matches(flags[foreign[0]], self._option_string_actions, 1, 0.75):
                message += f"; did you mean {close[0]}?"
        super().error(message)

    def _has(self, flag: str) -> bool:
        return any(own.startswith(flag) for own in self._option_string_actions)  # argparse completes them


def new_parser(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """A parser for `trident <command>`, with --debug and --max-pixels, which every command has."""
    parser = _Parser(
        prog=f"trident {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "--max-pixels",
        type=_above_zero,
        metavar="N",
        help="read larger images, of up to N pixels",
    )
    return parser


def add_recipe(parser: argparse.ArgumentParser, what: str = A_RECIPE) -> None:
    """The recipe, or `what` may be typed in its place, and its overrides."""
    parser.add_argument("recipe", help=what)
    add_overrides(parser, "override values of the recipe")


def add_overrides(parser: argparse.ArgumentParser, what: str) -> None:
    """Recipe values, `key.path=value`."""
    parser.add_argument("overrides", nargs="*", default=[], metavar="key.path=value", help=what)


def add_tiling(parser: argparse.ArgumentParser) -> None:
    """--tile and --overlap, from which `engine.scoring.tiles.Tiling.of` makes a tiling."""
    parser.add_argument("--tile", type=int, metavar="PX", help="side of the tiles of a large image")
    parser.add_argument(
        "--overlap", type=int, metavar="PX", help="of neighbouring tiles (default: an eighth of --tile)"
    )


def _above_zero(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a number of pixels, such as 400000000, not {text!r}")
    return int(text)


def paths_and_overrides(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into paths, their ~ expanded, and `key.path=value` overrides.

    A path that exists may contain a `=`.
    """
    overrides = [text for text in texts if "=" in text and not Path(text).expanduser().exists()]
    return [os.path.expanduser(text) for text in texts if text not in overrides], overrides


def recipe_file(name: str) -> Path:
    """The recipe that a command was given; where that is not the file that was typed, prints which it is."""
    from engine.recipe import find_recipe

    file = find_recipe(name)
    # torchrun sets RANK: one line is enough
    if str(file) != str(Path(name)) and os.environ.get("RANK", "0") == "0":
        print(f"recipe {name}: {file}", file=sys.stderr)
    return file


def run_command(
    parser: argparse.ArgumentParser, body: Callable[[argparse.Namespace], int], argv: list[str] | None
) -> int:
    """Parse, run, and turn errors into exit codes.

    0: done. 2: the user's input is wrong (the error has `exit_code = 2`), or a file may not be read or
    written. 1: the run failed.
    """
    try:
        arguments = parser.parse_intermixed_args(argv)
    except SystemExit as stop:  # argparse has printed its message, or the help
        return int(stop.code or 0)
    for name, value in vars(arguments).items():
        setattr(arguments, name, _at_home(value))
    try:
        with _environment(_variables(arguments.max_pixels)):
            return body(arguments)
    except Exception as error:
        exit_code, message = exit_code_and_message(error)
        if arguments.debug or exit_code is None:
            traceback.print_exc()
        else:
            print(printable(f"{parser.prog}: {message}", sys.stderr.encoding), file=sys.stderr)
        return exit_code or 1
    except KeyboardInterrupt as interrupt:
        print(f"{parser.prog}: {str(interrupt) or 'interrupted.'}", file=sys.stderr)
        return 1


def _at_home(value: Any) -> Any:
    """An argument, with ~ expanded where it is a path or a list of paths; a shell leaves it in --out=~/x."""
    if isinstance(value, list):
        return [_at_home(one) for one in value]
    return Path(os.path.expanduser(value)) if isinstance(value, Path) else value


def run_subcommand(
    command: str,
    description: str,
    listing: str,
    subcommands: Mapping[str, Callable[[list[str]], int]],
    argv: list[str] | None,
) -> int:
    """`trident <command> WHAT ...`: calls the subcommand, or says which there are."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in subcommands:
        return subcommands[argv[0]](argv[1:])
    parser = new_parser(command, description, f"{listing}\ntrident {command} WHAT --help")
    parser.add_argument("what", metavar="WHAT", choices=subcommands, help=f"one of {', '.join(subcommands)}")
    words = argv if argv[:1] and argv[0].startswith("-") else argv[:1]  # what follows a wrong word is its own
    return run_command(parser, lambda arguments: subcommands[arguments.what](["--debug"]), words)


def _variables(max_pixels: int | None) -> dict[str, str]:
    """For the environment of a command and of the processes that it starts."""
    # While torch's threads wait for each other, they run in a loop before they sleep: on cores that other
    # programs use, an update then takes many times as long. OpenMP reads this when torch is imported.
    is_chosen = "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ
    values = {} if is_chosen else {"GOMP_SPINCOUNT": SPIN_COUNT}
    if max_pixels is not None:
        values["TRIDENT_MAX_PIXELS"] = str(max_pixels)  # engine/data/formats/images.py reads it
    return values


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """A block with these variables in the environment."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is not None:
                os.environ[name] = value
            else:
                os.environ.pop(name, None)


def new_console(quiet: bool = False) -> "Console":
    """The console that commands print to. A file or a pipe gets long lines, which a terminal would wrap."""
    from rich.console import Console

    output = cast("IO[str]", Output())
    if sys.stdout.isatty():
        return Console(file=output, highlight=False, quiet=quiet)
    width = None if "COLUMNS" in os.environ else LOG_WIDTH
    return Console(file=output, highlight=False, soft_wrap=True, width=width, quiet=quiet)


def main(argv: list[str] | None = None) -> int:
    """`trident <command> ...`, the same as `python -m engine.<command> ...`."""
    argv = sys.argv[1:] if argv is None else argv
    if os.getcwd() not in sys.path:  # for import paths in a recipe; last, so that it shadows nothing
        sys.path.append(os.getcwd())
    listing = "\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items())
    if not argv or argv[0] in ("-h", "--help"):
        print(f"trident {__version__}\n\nusage: trident <command> [arguments]\n\n{listing}")
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"trident {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        meant = elsewhere.COMMANDS.get(argv[0])
        if meant:
            words = elsewhere.run_arguments(argv[1:]) if meant == "run" and argv[1:] else argv[1:]
            typed = shlex.join(["trident", meant, *(words or ["--help"])]).replace("'<recipe>'", "<recipe>")
            print(f"trident: {argv[0]} is called {meant} here; type: {typed}", file=sys.stderr)
            return 2
        close = difflib.get_close_matches(argv[0], [*COMMANDS, *elsewhere.COMMANDS], n=1)
        hint = f" Did you mean {elsewhere.COMMANDS.get(close[0], close[0])}?" if close else ""
        print(f"trident: no command {argv[0]!r}.{hint} There are:\n{listing}", file=sys.stderr)
        return 2
    exit_code: int = importlib.import_module(f"engine.{argv[0]}").main(argv[1:])
    return exit_code
