"""What an ensemble is asked to be of: its methods, and the checkpoints of the runs that were named."""

import difflib
import shlex
from collections.abc import Sequence

from engine.recipe import load_recipe
from engine.run_folder import RunFolder, RunFolderError
from engine.scoring.ensembles.methods import METHODS, OF_TAILS
from engine.scoring.ensembling import Candidate, group_candidates
from engine.wording import quantity


def methods_named(texts: Sequence[str]) -> list[str]:
    """The methods that --method names, each once, in the order of the table.

    Raises:
        RunFolderError: there is no such method.
    """
    wanted = [name.strip() for text in texts for name in text.split(",")]
    for name in wanted:
        if name not in (*METHODS, "all"):
            close = difflib.get_close_matches(name, METHODS, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise RunFolderError(f"--method {name} is unknown.{hint} Expected {', '.join(METHODS)} or all.")
    return [name for name in METHODS if name in wanted or "all" in wanted]


def best_of_the_only_group(runs: Sequence[RunFolder], top: int) -> tuple[str, list[Candidate]]:
    """The title of the only group of runs, and its best checkpoints.

    Raises:
        RunFolderError: they kept no checkpoint, or differ in their images or classes.
    """
    groups = group_candidates(runs)
    if not groups:
        found = quantity(len(runs), "run was", "runs were")
        raise RunFolderError(f"{found} found, without a checkpoint so far.")
    if len(groups) > 1 and all(load_recipe(run.recipe, imports=False).data.fold for run in runs):
        raise RunFolderError(
            "These runs are folds, each scored on other images. To score them together type trident compare "
            + shlex.join(str(run.path) for run in runs)
        )
    if len(groups) > 1:
        lines = [
            f"  {g.title}:\n    trident ensemble {shlex.join(str(r.path) for r in g.runs)}" for g in groups
        ]
        raise RunFolderError(
            "These runs differ in their val images or classes. Take one group:\n" + "\n".join(lines)
        )
    return groups[0].title, groups[0].candidates[:top]


def with_latest(chosen: list[Candidate], states: list[Candidate]) -> list[Candidate]:
    """Raises RunFolderError where there is no state that is not a member already."""
    if not states:
        raise RunFolderError(
            "--latest: these runs kept no latest state that is not a member already. Train with "
            "keep.tail=8, or leave it out."
        )
    return [*chosen, *states]


def possible_methods(methods: list[str], chosen: list[Candidate]) -> list[str]:
    """The methods, without those that need latest states where no run kept two of them.

    Raises:
        RunFolderError: such a method was named, and not all are asked for.
    """
    needing = [method for method in methods if method in OF_TAILS]
    if not needing or any(len(candidate.manifest.tail) > 1 for candidate in chosen):
        return methods
    if len(methods) < len(METHODS):
        raise RunFolderError(
            f"--method {needing[0]} averages the latest states of a run, and none of these runs kept two. "
            "Train with keep.tail=8, or take one of the other methods, such as --method soup_greedy"
        )
    return [method for method in methods if method not in needing]


def require_several(chosen: Sequence[Candidate], methods: list[str], is_kept: bool) -> None:
    """Raises RunFolderError where one checkpoint is all there is to combine.

    Args:
        is_kept: whether the ensemble is saved, or taught to a student.
    """
    if set(methods) <= set(OF_TAILS):
        return
    if len(chosen) == 1 and (methods != ["mean"] or is_kept):
        raise RunFolderError(
            f"{chosen[0].path} is the only checkpoint: nothing to combine. Name more runs, or raise --top."
        )


def was_kept_on_val(candidate: Candidate) -> bool:
    """Whether the checkpoint was chosen by its scores on val, without a selection split."""
    data = load_recipe(candidate.run.recipe, imports=False).data
    return data.select in (None, data.val)
