"""What a run does between its updates: evaluate, keep checkpoints, save its state, stop, go back."""

from functools import partial
from statistics import fmean

from torch import Tensor

from engine.reporting.advisor import Note
from engine.reporting.reporter import Reporter
from engine.run_folder import RunFolder
from engine.scoring.multi_label import thresholds_of
from engine.training.checkpoint import TopKeeper, load_state
from engine.training.distributed import sum_in_place, wait_for_all
from engine.training.fit import Hooks, SkipGuard
from engine.training.freed_memory import freed_memory_returned
from engine.training.interrupt import StopSignal
from engine.training.memory import in_an_evaluation, naming_out_of_memory
from engine.training.patience import is_out_of_patience, stopped_early
from engine.training.saving import SaveSchedule, StateWriter
from engine.training.session import Session
from engine.training.tail import TailKeeper
from engine.wording import quantity

GO_BACK_FACTOR = 0.5  # on the learning rate, where train.on_nan=rollback goes back


class RunHooks(Hooks):
    """The hooks of a run. Only the main process writes files, or all processes if the model is sharded."""

    def __init__(
        self,
        run: RunFolder,
        session: Session,
        keeper: TopKeeper,
        tail: TailKeeper,
        reporter: Reporter,
        stop: StopSignal,
        writer: StateWriter,
    ):
        self._run = run
        self._session = session
        self._keeper = keeper
        self._tail = tail
        self._reporter = reporter
        self._stop = stop
        self._writer = writer
        log_every = int(session.recipe.log.every)
        self._schedule = SaveSchedule(session.process, session.recipe.train.save_every, log_every)
        super().__init__(self._new_guard())

    def evaluate(self) -> None:
        session, step = self._session, self._session.step
        with naming_out_of_memory(partial(in_an_evaluation, session, self._run)):
            evaluated = step.evaluated()
            with freed_memory_returned(session.process.device):
                scores = session.validation(evaluated, step.count, self._reporter)
        step.evaluations.append((step.count, scores.metrics))
        if session.process.is_main:
            keep = session.recipe.keep
            latest = [earlier[keep.metric] for _, earlier in step.evaluations[-keep.smooth :]]
            metrics, thresholds = scores.metrics | {keep.score: fmean(latest)}, thresholds_of(scores)
            if member := self._keeper.offer(step.count, metrics, evaluated.state_dict, thresholds):
                self._reporter.checkpoint(step.count, self._run.path / member.file)
        if step.count < int(session.recipe.train.steps) and self.is_out_of_patience():
            note = stopped_early(session.recipe, step.evaluations, step.lr_scale)
            self._reporter.note(step.count, note)

    def tail_is_due(self, step: int) -> bool:
        return self._tail.is_due(step)

    def keep_tail(self) -> None:
        step = self._session.step
        state, averages = step.evaluated().state_dict(), step.averaged()  # by all processes together
        if self._session.process.is_main:
            self._tail.keep(step.count, state, averages)

    def save_is_due(self, step: int) -> bool:
        return self._schedule.is_due(step)

    def save(self) -> None:
        step, process = self._session.step, self._session.process
        if step.is_sharded:
            wait_for_all(process)  # the main process may have kept a checkpoint
        if process.is_main or step.is_sharded:
            self._writer.save(step)
        wait_for_all(process)  # the main process has also kept a checkpoint, and drawn pictures
        self._schedule.saved()

    def is_out_of_patience(self) -> bool:
        return is_out_of_patience(self._session.recipe, self._session.step.evaluations)

    def stop_is_requested(self, step: int) -> bool:
        return self._stop.requested(step)

    def go_back(self) -> None:
        """Load the last state, and halve the learning rate from there to the end of the training."""
        step, broken = self._session.step, self._session.step.count
        self._writer.wait()
        wait_for_all(self._session.process)  # until the main process has written the state
        load_state(self._run, step, self._keeper.manifest.run_id)
        step.lr_scale *= GO_BACK_FACTOR
        in_a_row = self._session.recipe.train.max_skipped
        text = (
            f"{quantity(in_a_row, 'update in a row was', 'updates in a row were')} skipped up to update "
            f"{broken}, so the training goes on from the state of update {step.count}, with "
            f"{step.lr_scale:g} times the learning rate of the recipe. If it happens again, it stops."
        )
        self._reporter.note(step.count, Note("rollback", text, ()))
        self.guard = self._new_guard()

    def _new_guard(self) -> SkipGuard:
        session = self._session

        def agree(flags: Tensor) -> None:
            sum_in_place(session.process, [flags])

        def report(count: int) -> None:
            draws = session.batches.order.update(count - 1)
            samples = [(session.train.ids[draw.index], draw.epoch) for draw in draws]
            self._reporter.skipped(count, samples)

        section, went_back = session.recipe.train, session.step.lr_scale < 1
        return SkipGuard(self._run, agree, section.on_nan, section.max_skipped, report, went_back)
