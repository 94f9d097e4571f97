"""IoU of each class and its change since the last evaluation, as a table or a line of text."""

import math

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from engine.scoring.confusion import Scores

MOST_CLASSES = 30  # with more, a table shows those that changed most
NUM_MOST_CHANGED = 12
MOST_BLOCKS, BLOCK_ROWS = 3, 4  # side by side; rows of a block, at least
NUM_NAMED = 3  # classes per line and direction


def class_table(scores: Scores, before: Scores | None, width: int) -> Table:
    """In up to three blocks side by side, so that 21 classes take 7 lines; absent classes are left out.

    Args:
        before: of the previous evaluation; None at the first one.
        width: of the console, in characters.
    """
    shown = _shown(scores, before)
    names_wide = max((len(name) for name in shown), default=5)
    num_blocks = max(1, min(MOST_BLOCKS, (width - 1) // (names_wide + 17), -(-len(shown) // BLOCK_ROWS)))
    num_rows = -(-len(shown) // num_blocks)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(num_blocks):
        table.add_column("class", overflow="ellipsis", no_wrap=True)
        table.add_column("IoU", justify="right", no_wrap=True)
        table.add_column("change", justify="right", no_wrap=True)
    change = changes(scores, before)
    for row in range(num_rows):
        cells: list[str | Text] = []
        for name in shown[row::num_rows]:
            cells += [Text(name), f"{scores.IoU[name]:.4f}", _coloured(change.get(name))]
        table.add_row(*cells)
    if len(shown) < len(_present(scores)):
        table.caption = f"{len(shown)} of {len(_present(scores))} classes, those that changed most"
        table.caption_justify = "left"
    return table


def change_line(scores: Scores, before: Scores) -> str:
    """The classes that rose and fell most, as one line; empty where none changed. Console markup."""
    change = changes(scores, before)
    ranked = sorted(change, key=lambda name: change[name])
    risen = [name for name in ranked[::-1][:NUM_NAMED] if change[name] > 0]
    fallen = [name for name in ranked[:NUM_NAMED] if change[name] < 0]
    lines = {"up": risen, "down": fallen}
    return "  ".join(
        f"{word}: {', '.join(f'{escape(name)} {change[name]:+.4f}' for name in names)}"
        for word, names in lines.items()
        if names
    )


def changes(scores: Scores, before: Scores | None) -> dict[str, float]:
    """IoU minus the previous IoU, of the classes that have both."""
    if before is None:
        return {}
    present = [name for name in _present(scores) if not math.isnan(before.IoU[name])]
    return {name: scores.IoU[name] - before.IoU[name] for name in present}


def _present(scores: Scores) -> list[str]:
    return [name for name, value in scores.IoU.items() if not math.isnan(value)]


def _shown(scores: Scores, before: Scores | None) -> list[str]:
    """In class order; of more than MOST_CLASSES those that changed most, or at first those of highest IoU."""
    names, change = _present(scores), changes(scores, before)
    if len(names) <= MOST_CLASSES:
        return names
    size = {name: abs(change.get(name, 0.0 if before else scores.IoU[name])) for name in names}
    most = set(sorted(names, key=lambda name: -size[name])[:NUM_MOST_CHANGED])
    return [name for name in names if name in most]


def _coloured(change: float | None) -> Text:
    if change is None:
        return Text("")
    return Text(f"{change:+.4f}", style="green" if change > 0 else "red" if change < 0 else "dim")
