"""What `trident ensemble` is asked for: the methods, and the checkpoints of the named runs."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.data.sample import Dataset, require_one_class_a_pixel, skipped_ids
from engine.recipe import Recipe, load_recipe
from engine.run_folder import RunFolder, RunFolderError, no_checkpoint, require_intact
from engine.scoring.ensembles.comparison import Selection
from engine.scoring.ensembles.methods import METHODS, OF_TAILS, OF_WIDTHS
from engine.scoring.ensembles.power_average import Width, widths_of
from engine.scoring.ensembling import Candidate, group_candidates, latest_states, open_val
from engine.scoring.selection_split import open_select
from engine.wording import did_you_mean

NO_TAIL = "averages the latest states of a run, and none of these runs kept two. Train with keep.tail=8"
NO_WIDTHS = (
    "combines averages of the weights that were tracked during the training, and none of these runs kept "
    "any. Train with keep.tail=8 'train.ema_widths=[0.05,0.1]'"
)


@dataclass(frozen=True)
class Request:
    """What is combined, how, and on which images it is selected and scored.

    title: of the data. chosen: the members. states: latest states of their runs, for means of weights.
    widths: averages of these runs, for ema_post_hoc.
    methods: of METHODS. recipe: of the first member's run, with overrides. dataset: its val split.
    select: the split of the selection; None: `dataset`. repeats: of halving `dataset` for honest scores.
    """

    title: str
    chosen: list[Candidate]
    states: list[Candidate]
    widths: list[Width]
    methods: list[str]
    recipe: Recipe
    dataset: Dataset
    select: Dataset | None
    repeats: int

    @classmethod
    def of(
        cls,
        runs: Sequence[RunFolder],
        overrides: Sequence[str],
        methods: list[str],
        top: int,
        per_run: int | None,
        with_latest_states: bool,
        repeats: int,
        is_kept: bool,
    ) -> "Request":
        """The best checkpoints of runs, and the methods that are possible for them.

        Args:
            top: how many members. per_run: how many of one run at most; None: no limit.
            is_kept: whether the ensemble is saved, or teaches a student.

        Raises:
            RunFolderError: there is nothing to combine, or the split differs from the val split of the runs.
            RecipeError, DataError: an override is wrong, or images are missing.
        """
        title, chosen = best_of_the_only_group(runs, top, per_run)
        states = latest_states(chosen)
        methods, widths = possible_methods(methods, chosen)
        if with_latest_states:
            chosen, states = with_latest(chosen, states), []
        require_several(chosen, methods, is_kept, is_limited=1 in (top, per_run))
        require_intact_parts(states if set(methods) & set(OF_TAILS) else [], widths)
        recipe, dataset = open_val(chosen[0], overrides)
        if repeats and len(dataset) < 2:
            raise RunFolderError(f"--split-half: {recipe.data.val} has one image, which cannot be halved.")
        is_typed = recipe.data.select and any(text.startswith("data.select=") for text in overrides)
        if methods != ["mean"] or repeats or is_typed:
            how = "The mean is what there is: leave --method, --split-half and --select-split out."
            require_one_class_a_pixel(recipe.data, "A choice of ensembles", how)
        selects = not repeats and recipe.data.labels == "single"  # else there is nothing to select
        select = open_select(recipe, chosen, dataset) if selects else None
        return cls(title, chosen, states, widths, methods, recipe, dataset, select, repeats)

    @property
    def candidates(self) -> list[Candidate]:
        """The members, states and averages, in the order in which they are numbered."""
        return [*self.chosen, *self.states, *self.widths]

    @property
    def selection(self) -> Selection:
        """The images of the selection; complete after they were read, as some may be skipped."""
        chosen_on = self.select or self.dataset
        data = self.recipe.data
        return Selection(
            split=data.select if self.select and data.select else data.val,
            num_images=len(chosen_on) - len(skipped_ids(chosen_on)),
            same_images=self.select is None,
            repeats=self.repeats,
        )


def methods_named(texts: Sequence[str]) -> list[str]:
    """The methods that --method names, each once, in the order of METHODS.

    Raises:
        RunFolderError: there is no such method.
    """
    wanted = [name.strip() for text in texts for name in text.split(",")]
    for name in wanted:
        if name not in (*METHODS, "all"):
            hint = did_you_mean(name, METHODS)
            raise RunFolderError(f"--method {name} is unknown.{hint} Expected {', '.join(METHODS)} or all.")
    return [name for name in METHODS if name in wanted or "all" in wanted]


def best_of_the_only_group(
    runs: Sequence[RunFolder], top: int, per_run: int | None
) -> tuple[str, list[Candidate]]:
    """The title of the only group of runs, and its `top` best checkpoints, at most `per_run` from one run.

    Of equal checkpoints, as in a copy of a run, one is taken: in a mean it would count twice.

    Raises:
        RunFolderError: they kept no checkpoint, or differ in their images or classes.
    """
    groups = group_candidates(runs)
    if not groups:
        raise RunFolderError("\n".join(no_checkpoint(run.path) for run in runs))
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
    taken: Counter[Path] = Counter()
    chosen: list[Candidate] = []
    for candidate in groups[0].candidates:
        if any(candidate.member.sha256 == other.member.sha256 for other in chosen):
            continue
        taken[candidate.run.path] += 1
        if per_run is None or taken[candidate.run.path] <= per_run:
            chosen.append(candidate)
    return groups[0].title, chosen[:top]


def with_latest(chosen: list[Candidate], states: list[Candidate]) -> list[Candidate]:
    """The members and the states; raises RunFolderError if there are no further states."""
    if not states:
        raise RunFolderError(
            "--latest: these runs kept no latest state that is not a member already. Train with "
            "keep.tail=8, or leave it out."
        )
    return [*chosen, *states]


def possible_methods(methods: list[str], chosen: list[Candidate]) -> tuple[list[str], list[Width]]:
    """The methods for which the runs kept the states or averages that they need, and these averages.

    Raises:
        RunFolderError: such a method was named, and not all are asked for.
    """
    widths = widths_of(chosen) if set(methods) & set(OF_WIDTHS) else []
    has_tail = any(len(candidate.manifest.tail) > 1 for candidate in chosen)
    lacking = {
        method: lack
        for method in methods
        for needing, has, lack in ((OF_TAILS, has_tail, NO_TAIL), (OF_WIDTHS, widths, NO_WIDTHS))
        if method in needing and not has
    }
    if lacking and len(methods) < len(METHODS):
        method, lack = next(iter(lacking.items()))
        raise RunFolderError(
            f"--method {method} {lack}, or take one of the other methods, such as --method soup_greedy"
        )
    return [method for method in methods if method not in lacking], widths


def require_several(chosen: Sequence[Candidate], methods: list[str], is_kept: bool, is_limited: bool) -> None:
    """Raises RunFolderError if there is only one checkpoint to combine.

    Args:
        is_kept: whether the ensemble is saved, or teaches a student.
        is_limited: whether --top or --per-run may have left others out.
    """
    if set(methods) <= {*OF_TAILS, *OF_WIDTHS}:
        return
    if len(chosen) == 1 and (methods != ["mean"] or is_kept):
        more = ", or raise --top or --per-run" if is_limited else ", or train with keep.top=3"
        raise RunFolderError(
            f"{chosen[0].path} is the only checkpoint: nothing to combine. Name more runs{more}."
        )


def require_intact_parts(states: Sequence[Candidate], widths: Sequence[Width]) -> None:
    """Raises RunFolderError if a state or an average, which are loaded late, is missing or altered."""
    files = {state.path: state.member.sha256 for state in states}
    files |= {width.run.path / one.file: one.sha256 for width in widths for one, _ in width.parts}
    for path, sha256 in files.items():
        require_intact(path, sha256)


def was_kept_on_val(candidate: Candidate) -> bool:
    """Whether the checkpoint was selected by its score on val, without a selection split."""
    data = load_recipe(candidate.run.recipe, imports=False).data
    return data.select in (None, data.val)
