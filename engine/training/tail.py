"""Keeps the latest states of a training, whatever their scores: `keep.tail` files of weights.

With train.ema_widths, the averages of these widths are kept with each state.
"""

from collections.abc import Container, Mapping
from types import MappingProxyType

from torch import Tensor

from engine.recipe import Recipe
from engine.run_folder import Average, LatestState, Manifest, RunFolder, sha256_of
from engine.training.checkpoint import save_weights
from engine.training.schedule import ends_of_cycles


class TailKeeper:
    """Keeps states at fixed intervals, counted back from the last update, or at the ends of the cycles.

    Args:
        run: the folder where they are written.
        manifest: of the run; it lists the states, those from before a resume included.
        recipe: with durations in steps.
    """

    def __init__(self, run: RunFolder, manifest: Manifest, recipe: Recipe):
        self.run = run
        self.manifest = manifest
        self.length = recipe.keep.tail
        self.due = _due(recipe) if self.length else ()

    def is_due(self, step: int) -> bool:
        """Whether the state after this update is kept."""
        return step in self.due

    def keep(
        self,
        step: int,
        tensors: dict[str, Tensor],
        averages: Mapping[float, dict[str, Tensor]] = MappingProxyType({}),
    ) -> None:
        """Write the state, then delete those that are no longer among the latest.

        States of later updates are deleted as well. They are left from before a resume, or from before the
        training went back to an earlier state, and are written again later.

        Args:
            averages: the tensors of each width.

        Raises:
            DiskError: the disk refuses the file.
        """
        self.run.tail.mkdir(exist_ok=True)
        of_widths = []
        for width, of_width in averages.items():
            file, sha256 = self._written(f"step-{step:07d}-width-{width:g}", step, of_width)
            of_widths.append(Average(file=file, width=width, sha256=sha256))
        file, sha256 = self._written(f"step-{step:07d}", step, tensors)
        state = LatestState(file=file, step=step, scores={}, sha256=sha256, averages=of_widths)
        before = self.manifest.tail
        earlier = [old for old in before if old.step < step]
        self.manifest.tail = [*earlier, state][-self.length :]
        self.run.write_manifest(self.manifest)
        kept = {file for one in self.manifest.tail for file in one.files}
        for old in [file for one in before for file in one.files if file not in kept]:
            (self.run.path / old).unlink(missing_ok=True)  # last: the manifest never names a deleted file

    def _written(self, name: str, step: int, tensors: dict[str, Tensor]) -> tuple[str, str]:
        """The path of a new file, relative to the run folder, and its SHA-256."""
        path = self.run.tail / f"{name}.safetensors"
        save_weights(path, tensors, {"step": step})
        return str(path.relative_to(self.run.path)), sha256_of(path)


def _due(recipe: Recipe) -> Container[int]:
    """The numbers of updates after which a state is kept."""
    every, num_steps = recipe.keep.tail_every, int(recipe.train.steps)
    if every == "auto":
        return frozenset(ends_of_cycles(recipe.schedule, num_steps))
    return range(num_steps, -1, -int(every))
