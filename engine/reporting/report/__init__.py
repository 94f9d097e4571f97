"""The report: runs side by side and each of them in detail, on one page that needs no network.

Everything but the pictures comes from the run folders; a run that has not finished is marked so.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.diagnosis import diagnose
from engine.reporting.report.content import RunContent, cautions, groups_of, read_runs
from engine.reporting.report.gallery import Gallery, open_gallery
from engine.reporting.report.page import render
from engine.run_folder import write_text

__all__ = ["Gallery", "cautions", "open_gallery", "read_runs", "write_report"]


def write_report(contents: Sequence[RunContent], out: Path, galleries: Mapping[Path, Gallery]) -> None:
    """Write the page about the runs that `read_runs` returned to `out`, which is replaced.

    Args:
        galleries: worst and best images by the path of the run; runs may be missing.
    """
    title = contents[0].name if len(contents) == 1 else f"{len(contents)} runs"
    suggestions = {content.run.path: diagnose(content.run) for content in contents if content.run.recipe}
    write_text(out, render(title, groups_of(contents), galleries, suggestions))
