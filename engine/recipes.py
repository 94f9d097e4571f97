"""trident recipes [NAME]: list the recipes that come with Trident, or print one to start from."""

import argparse
import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from engine.command import new_console, new_parser, run_command

if TYPE_CHECKING:
    from rich.table import Table

EXAMPLES = """
examples:
  trident recipes
  trident recipes b2_adv > my.yaml        a copy to change; its `base:` is found from any folder
  trident run my.yaml data.root=...
  trident run b2_adv data.root=...        the recipe as it is, by name
"""

NOT_MEASURED = "not yet measured"


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 there is no such recipe."""
    parser = new_parser("recipes", "List the recipes that come with Trident, or print one.", EXAMPLES)
    parser.add_argument("name", nargs="?", help="print this recipe")
    return run_command(parser, recipes, argv)


def recipes(arguments: argparse.Namespace) -> int:
    """Print the table, or the text of one recipe."""
    from engine.recipe import RecipeError, shipped_recipes

    shipped = shipped_recipes()
    if arguments.name is None:
        new_console().print(_table(shipped))
        return 0
    file = shipped.get(arguments.name.removesuffix(".yaml"))
    if file is None:
        close = difflib.get_close_matches(arguments.name, shipped, n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise RecipeError(f"no recipe {arguments.name!r}{hint} There are: {', '.join(shipped)}")
    text = file.read_text(encoding="utf-8")
    # The editor's schema is next to the shipped recipe, not next to the copy.
    print(text.replace("$schema=recipe", f"$schema={file.parent.resolve()}/recipe"), end="")
    return 0


def _table(shipped: dict[str, Path]) -> "Table":
    """From the comments at the top of each recipe: line 2 is what it trains, then `score` and `time`."""
    from rich.table import Table

    table = Table("recipe", "what it trains", caption_justify="left")
    for heading in ("score", "time"):
        table.add_column(heading, max_width=22)
    table.caption = "Recipes without a score and a time were not measured yet."
    for name, file in shipped.items():
        header = file.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
        fields = dict(line.removeprefix("# ").split(maxsplit=1) for line in header if len(line.split()) > 2)
        measured = ("" if fields[key] == NOT_MEASURED else fields[key] for key in ("score", "time"))
        table.add_row(name, header[1].removeprefix("# "), *measured)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
