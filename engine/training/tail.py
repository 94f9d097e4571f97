"""The latest states of a training, which no score chose: a ring of `keep.tail` files of weights."""

from torch import Tensor

from engine.recipe import Recipe
from engine.run_folder import Manifest, Member, RunFolder, sha256_of
from engine.training.checkpoint import save_weights


class TailKeeper:
    """Keeps the latest states at a fixed distance that ends with the last update of the training.

    Args:
        run: the folder where they are written.
        manifest: of the run; it lists the states, those from before a resume included.
        recipe: with durations in steps.
    """

    def __init__(self, run: RunFolder, manifest: Manifest, recipe: Recipe):
        self.run = run
        self.manifest = manifest
        self.length = recipe.keep.tail
        self.every = int(recipe.keep.tail_every) if self.length else 0
        self.num_steps = int(recipe.train.steps)

    def is_due(self, step: int) -> bool:
        """Whether the state after this update is kept."""
        return self.length > 0 and (self.num_steps - step) % self.every == 0

    def keep(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Write the state, then delete those that are no longer among the latest.

        States of later updates are deleted as well: they are from before a resume, or before a return to an
        earlier state, and are written again when the training gets there.

        Raises:
            DiskError: the disk refuses the file.
        """
        self.run.tail.mkdir(exist_ok=True)
        path = self.run.tail / f"step-{step:07d}.safetensors"
        save_weights(path, tensors, {"step": step})
        file = str(path.relative_to(self.run.path))
        member = Member(file=file, step=step, scores={}, sha256=sha256_of(path))
        before = self.manifest.tail
        earlier = [old for old in before if old.step < step]
        self.manifest.tail = [*earlier, member][-self.length :]
        self.run.write_manifest(self.manifest)
        kept = {one.file for one in self.manifest.tail}
        for old in before:  # after the manifest, which must never name a deleted file
            if old.file not in kept:
                (self.run.path / old.file).unlink(missing_ok=True)
