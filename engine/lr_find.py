"""trident lr_find RECIPE [key.path=value ...]: try a range of learning rates and suggest one."""

import argparse
import math
import shlex
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from engine.command import add_recipe, new_console, new_parser, recipe_file, run_command
from engine.wording import quantity

if TYPE_CHECKING:
    from engine.recipe import Recipe
    from engine.training.lr_range import RangeTest

WIDE, NARROW = (1e-6, 1e-1), (5e-5, 5e-4)
BATCH_FACTORS = (0.5, 1, 2, 4)
PNG, JSON = "lr_find.png", "lr_find.json"
FEWEST_STEPS = 20
REASONS = {
    "flat": "the curve cannot tell, as the loss changes by no more than its noise. With more updates, more "
    "losses are averaged at each rate. If it stays flat, examine the data: trident doctor <recipe>",
    "rises": "the loss does not fall in this range before it rises or becomes infinite. Try lower rates. If "
    "it does not fall there either, examine the data: trident doctor <recipe>",
    "falls to the end": "the loss falls and does not rise again in this range, so nothing shows which rate "
    "is too high. Try higher ones.",
}

EXAMPLES = """
examples:
  trident lr_find demo
  trident lr_find b2_adv data.root=data/VOCdevkit/VOC2012 --narrow
  trident lr_find b2_adv data.root=... --from 1e-5 --to 1e-2 --steps 200
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 the curve does not tell, 2 the input is wrong."""
    parser = new_parser(
        "lr_find",
        "Make a few updates of the recipe's training with a learning rate that grows exponentially, record "
        "the loss, and suggest optimizer.lr. Writes a picture and a JSON file; no run is started or touched. "
        "Exits with 1 where the curve does not tell.",
        EXAMPLES,
    )
    add_recipe(parser)
    parser.add_argument("--from", dest="low", type=float, default=WIDE[0], help="first rate (default 1e-6)")
    parser.add_argument("--to", dest="high", type=float, default=WIDE[1], help="last rate (default 1e-1)")
    parser.add_argument("--narrow", action="store_true", help="from 5e-5 to 5e-4")
    parser.add_argument("--steps", type=int, default=100, help="number of updates (default 100)")
    parser.add_argument("--out", type=Path, help="folder for lr_find.png and .json (default lr_find/<name>)")
    return run_command(parser, lr_find, argv)


def lr_find(arguments: argparse.Namespace) -> int:
    """Build the training, sweep, print, write."""
    from engine.recipe import RecipeError, load_recipe

    low, high = NARROW if arguments.narrow else (arguments.low, arguments.high)
    if not 0 < low < high < math.inf:
        raise RecipeError(f"--from {low:g} --to {high:g}: expected 0 < from < to, as 1e-6 and 1e-1.")
    if arguments.steps < FEWEST_STEPS:
        raise RecipeError(f"--steps {arguments.steps}: a curve needs at least {FEWEST_STEPS} updates.")
    recipe = load_recipe(recipe_file(arguments.recipe), arguments.overrides, trains=True)
    of_one_size = recipe.augment.model_copy(update={"progressive": []})
    recipe = recipe.model_copy(update={"augment": of_one_size})  # losses of other crops do not compare
    folder = arguments.out or Path("lr_find") / recipe.name
    _require_room(folder)

    import numpy as np
    from rich.markup import escape

    from engine.options import seconds_of
    from engine.reporting.console import counted
    from engine.training.distributed import process_group
    from engine.training.lr_range import RULE, range_test
    from engine.training.memory import in_an_update, naming_out_of_memory
    from engine.training.session import build_session, torch_settings

    with process_group(seconds_of(recipe.train.timeout)) as process:
        console = new_console(quiet=not process.is_main)
        with torch_settings(recipe.train.deterministic, process.device):
            session = build_session(recipe, process, lambda what: counted(console, what), keep_counts=False)
            rates = [float(rate) for rate in np.geomspace(low, high, arguments.steps)]
            batches = session.batches.starting_at(0)
            with naming_out_of_memory(partial(in_an_update, session)):
                found = range_test(
                    session.step, batches, rates, recipe.optimizer.lr, counted(console, "trying")
                )
    if not process.is_main:
        return 0

    scaling = _scaling(found.suggestion, int(session.recipe.train.batch))
    _write(folder, found, session.recipe, scaling, low, high)
    chosen = [f"{key}: {value}, chosen as the recipe says auto" for key, value in session.chosen.items()]
    for line in [*chosen, *_summary(found, session.recipe, RULE), *_scaling_lines(scaling)]:
        console.print(escape(line))
    if not found.suggestion:
        console.print(escape(f"Next: {_next(arguments, found, folder)}"), soft_wrap=True)
    console.print(f"picture      {folder / PNG}\nnumbers      {folder / JSON}", markup=False)
    return 0 if found.suggestion else 1


def _write(
    folder: Path,
    found: "RangeTest",
    recipe: "Recipe",
    scaling: list[dict[str, float]],
    low: float,
    high: float,
) -> None:
    """The picture of the curve, and its numbers; `low` and `high` are the ends of what was to be tried."""
    from engine.reporting.lr_curve import draw_lr_curve
    from engine.run_folder import write_json
    from engine.training.lr_range import RULE

    batch = int(recipe.train.batch)
    report = {
        "recipe": recipe.name,
        "suggestion": found.suggestion,
        "rule": RULE,
        "verdict": found.verdict,
        "low": found.low,
        "rise": found.rise,
        "stopped": found.stopped,
        "batch": batch,
        "scaling": scaling,
        "rates": found.rates,
        "losses": found.losses,
        "smoothed": found.smoothed,
    }
    marks = {"suggested": found.suggestion, "first rise": found.rise, "in the recipe": recipe.optimizer.lr}
    shown = {name: rate for name, rate in marks.items() if rate and low <= rate <= high}
    title = f"{recipe.name}: {quantity(len(found.rates), 'update')} of {quantity(batch, 'image')}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / JSON, report)
    draw_lr_curve(folder / PNG, title, found.rates, found.losses, found.smoothed, shown)


def _require_room(folder: Path) -> None:
    """Raises RecipeError where a file would be overwritten, or written into a run; `require_folder`."""
    from engine.recipe import RecipeError
    from engine.run_folder import require_folder

    require_folder(folder, "--out")
    there = [name for name in (PNG, JSON) if (folder / name).exists()]
    if there:
        raise RecipeError(f"{folder / there[0]} exists already. Add --out <another folder>, or remove it.")
    runs = [path for path in (folder, *folder.absolute().parents) if (path / "manifest.json").exists()]
    if runs:
        raise RecipeError(
            f"--out {folder} is inside the run {runs[0]}, which must not change. Name another folder."
        )


def _summary(found: "RangeTest", recipe: "Recipe", rule: str) -> list[str]:
    """The result in sentences."""
    section, made = recipe.optimizer, len(found.rates)
    tried = f"Tried lr {found.rates[0]:.1e} to {found.rates[-1]:.1e} in {quantity(made, 'update')}"
    lines = [f"{tried}; stopped there: {found.stopped}." if found.stopped else f"{tried}."]
    if found.suggestion:
        lines += [
            f"Suggested: optimizer.lr={found.suggestion:.1e}; the recipe has {section.lr:.1e}. "
            f"It is {rule} (here {found.low:.1e} to {found.rise:.1e})."
        ]
    else:
        lines += [f"No suggestion: {REASONS[found.verdict]}"]
    if section.head_lr_mult != 1:
        lines += [f"The head had {section.head_lr_mult:g} times that rate (optimizer.head_lr_mult)."]
    if recipe.adversarial and int(recipe.adversarial.start) >= made:
        lines += [f"The discriminator, which starts at update {recipe.adversarial.start}, was not used."]
    return lines


def _next(arguments: argparse.Namespace, found: "RangeTest", folder: Path) -> str:
    """The command that may show what this curve does not."""
    low, high, steps = found.rates[0], found.rates[-1], arguments.steps
    if found.verdict == "flat":
        steps *= 4
    elif found.verdict == "rises":
        low, high = low / 100, min(high, low * 100)
    else:
        high *= 100
    out = next(path for number in count(2) if not (path := Path(f"{folder}-{number}")).exists())
    words = ["trident", "lr_find", arguments.recipe, *arguments.overrides, "--from", f"{low:g}"]
    return shlex.join([*words, "--to", f"{high:g}", "--steps", str(steps), "--out", str(out)])


def _scaling(suggestion: float | None, batch: int) -> list[dict[str, float]]:
    """The suggestion at other batch sizes, by the linear and the square root rule."""
    if suggestion is None:
        return []
    batches = [round(batch * factor) for factor in BATCH_FACTORS if batch * factor >= 1]
    return [
        {
            "batch": other,
            "linear": suggestion * other / batch,
            "square_root": suggestion * (other / batch) ** 0.5,
        }
        for other in batches
    ]


def _scaling_lines(scaling: list[dict[str, float]]) -> list[str]:
    if not scaling:
        return []
    rows = [(f"{row['batch']:g}", f"{row['linear']:.1e}", f"{row['square_root']:.1e}") for row in scaling]
    return [
        "At other batch sizes, by the linear rule (of SGD with a warm-up, arXiv 1706.02677), and by the "
        "square root, which is the rule of Adam (arXiv 2205.10287):",
        *(f"  train.batch={batch:<4} linear {linear}  square root {root}" for batch, linear, root in rows),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
