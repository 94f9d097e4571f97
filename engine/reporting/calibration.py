"""The calibration of an ensemble before and after a temperature, on the console."""

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.data.sample import DataError, Dataset
from engine.reporting.console import counted, titled_table
from engine.run_folder import RunFolderError
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.results import EvaluationResult
from engine.scoring.tempered import Tempered, Tempering, fitted_tempering
from engine.scoring.trained import Trained
from engine.wording import quantity


def tempering_of(
    trained: Trained,
    scored: tuple[str, Dataset],
    protocol: EvaluationProtocol,
    device: torch.device,
    is_typed: bool,
    console: Console,
) -> Tempering | None:
    """As `fitted_tempering`; None, and a line that says why, where no temperature can be fitted.

    Args:
        is_typed: whether the split was named for this command, so that a mistake in it ends the command.

    Raises:
        RunFolderError, DataError: a split that was typed cannot be fitted on.
    """
    try:
        progress = counted(console, "fitting the temperature")
        return fitted_tempering(trained, scored, protocol, device, progress)
    except (RunFolderError, DataError) as error:
        if is_typed:
            raise
        console.print(escape(f"Calibration is given without a temperature. {error}"))
        return None


def calibration_table(before: EvaluationResult, after: Tempered) -> Table:
    """The calibration before and after the temperature, which changes no predicted class."""
    where = f"{quantity(after.num_images, 'image')} of {after.split}"
    headings = ("", "as it predicts", f"at temperature {after.temperature:.3f}")
    table = titled_table("calibration", headings)
    table.caption = escape(f"Fitted on {where}.")
    assert before.calibration is not None, "counted where a pixel has one class"
    for name, values in {
        "ECE (0 is best)": (before.calibration.ece, after.calibration.ece),
        "log-loss": (before.log_loss, after.log_loss),
    }.items():
        table.add_row(name, *(f"{value:.4f}" for value in values))
    return table
