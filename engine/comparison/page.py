"""compare.html: the comparison on one page that needs no network."""

from pathlib import Path

from markupsafe import Markup

from engine.comparison.files import class_table, figure_table, score_table, tables_of_folds
from engine.comparison.plots import class_gaps_plot, comparison_plots
from engine.comparison.table import Comparison
from engine.reporting.pages import template
from engine.reporting.plots import CSS_VARIABLES, INK, LINE


def to_html(comparison: Comparison) -> str:
    """The page as text."""
    return template(Path(__file__).parent / "page.html").render(
        comparison=comparison,
        first=comparison.methods[0],
        others=comparison.methods[1:],
        tables={
            "Scores": score_table(comparison),
            **tables_of_folds(comparison),
            "Cost of a run": figure_table(comparison),
        },
        classes=class_table(comparison),
        plots={title: Markup(text) for title, text in comparison_plots(comparison).items()},
        class_plot=Markup(class_gaps_plot(comparison)) if len(comparison.methods) > 1 else None,
        ink=CSS_VARIABLES[INK],
        line=CSS_VARIABLES[LINE],
    )
