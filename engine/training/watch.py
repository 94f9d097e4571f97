"""Sets up whoever watches a training: the log, TensorBoard, the console, the advisor, the gradient probe."""

import math
from functools import partial

from rich.console import Console
from rich.markup import escape

from engine.data.resident import Resident
from engine.reporting.advisor import Advisor
from engine.reporting.console import ConsoleListener
from engine.reporting.journal import Journal, JsonLog
from engine.reporting.memory import memory_shares
from engine.reporting.tensorboard import TensorBoard
from engine.run_folder import RunFolder, read_log
from engine.training.probe import GradientProbe
from engine.training.session import Session


def open_journal(run: RunFolder, session: Session, console: Console) -> Journal:
    """The journal of a run, whose listeners write from the step's count on; and a probe in the step."""
    step, recipe, val = session.step, session.recipe, session.val
    device = session.process.device
    step.probe = GradientProbe(step.model, recipe.log.gradients, recipe.log.every, step.count)
    if not session.process.is_main:
        return Journal([], step.learning_rates, device)
    board = TensorBoard(run.path, val.palette, val.class_names, val.ignore_index, step.count)
    if step.count == 0 and (reason := board.graph(step.model)):
        console.print(f"TensorBoard gets no graph of this model: {escape(reason)}")
    listeners = [
        JsonLog(run.log, step.count),
        board,
    ]
    best = max((row["mIoU"] for row in read_log(run.log) if row.get("mIoU") is not None), default=-math.inf)
    listeners.append(ConsoleListener(console, recipe.train.steps, step.count, recipe.train.batch, best))
    return Journal(listeners, step.learning_rates, device, _advisor(session))


def _advisor(session: Session) -> Advisor:
    loaded = session.weights.parts.get("head") if session.weights else None
    return Advisor(
        session.recipe,
        num_classes=len(session.train.class_names),
        first_step=session.step.count,
        head_is_random=not (loaded and loaded.matched),
        data_is_resident=isinstance(session.train, Resident),
        memory_shares=partial(memory_shares, session.process.device),
    )
