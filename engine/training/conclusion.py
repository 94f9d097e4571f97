"""After the last update: the kept checkpoints and their ensemble are scored, and the report is written."""

import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

from rich.console import Console
from rich.markup import escape

from engine.data.sample import skipped_ids
from engine.data.sets import scored_further
from engine.reporting.console import counted, facts_below, scores_table
from engine.reporting.pictures import predict_pictures, sheet
from engine.reporting.report import cautions, open_gallery, read_runs, write_report
from engine.run_folder import Manifest, RunFolder, write_json, written_in_place
from engine.scoring.confusion import Scores
from engine.scoring.ensembling import (
    Candidate,
    agreement_of,
    ensemble_report,
    group_candidates,
    load_member,
    open_val,
    score_together,
)
from engine.scoring.evaluation import ENSEMBLE
from engine.scoring.label_kinds import label_kind
from engine.scoring.predictor import Predictor
from engine.training.features import spread
from engine.training.fit import RunError
from engine.training.freed_memory import give_freed_memory_back
from engine.training.session import Session


def conclude(run: RunFolder, session: Session, manifest: Manifest, console: Console) -> dict[str, Scores]:
    """Score the kept checkpoints and their ensemble on val, write the report, print where the files are."""
    groups = group_candidates([run])
    if not groups:
        metric = session.recipe.keep.metric
        raise RunError(f"No checkpoint was kept: {metric} had no value on split {manifest.data.val!r}.")
    candidates, device = groups[0].candidates, session.process.device
    recipe, val = open_val(candidates[0], ())
    protocol = session.validation.predictor.protocol
    bar = counted(console, "scoring")
    give_freed_memory_back()
    agreement, workers = agreement_of(candidates, val), recipe.data.workers
    on_maps = agreement.add if agreement else None
    scores = score_together(candidates, val, protocol, device, workers, run.scores, bar, on_maps)
    further = _scores_on_further_sets(candidates, session, console)
    report = ensemble_report(candidates, scores, protocol, val, run.path, further, agreement)
    write_json(run.ensemble, report)
    manifest.finished, manifest.files = True, {}
    run.write_final(manifest, run.recipe, run.log, run.scores, run.ensemble, run.doctor)

    best = load_member(candidates[0], device)
    predictor = Predictor(protocol, nullcontext, label_kind(recipe.data, candidates[0].member.thresholds))
    pictures = predict_pictures(best, val, spread(recipe.log.images, len(val)), predictor, device)
    if pictures:
        with written_in_place(run.predictions) as temporary:
            drawn = sheet(pictures, val.palette, val.class_names, val.ignore_index)
            drawn.save(temporary, format="PNG")
    contents = read_runs([run])
    gallery = open_gallery(contents[0], recipe.log.images // 2, device)
    write_report(contents, run.report, {run.path: gallery})
    console.print(scores_table(_by_heading(scores), val.class_names))
    console.print(facts_below(next(iter(scores.values())), skipped_ids(val), protocol.card()))
    for split, on_split in further.items():
        console.print(scores_table(_by_heading(on_split), val.class_names, f"IoU by class on {split}"))
    for line in cautions(contents[0]):
        console.print(escape(line))
    if not recipe.data.select:
        console.print(
            f"The checkpoints were selected on {recipe.data.val} too, so these scores are optimistic."
        )
    files: dict[str, object] = {"report": run.report, "pictures": run.predictions, "checkpoints": run.top}
    folder = shlex.quote(str(run.path))
    if len(manifest.tail) > 1:
        methods = "lawa,swa,ema_post_hoc" if manifest.tail[-1].averages else "lawa,swa"
        files["latest"] = f"{run.tail}: trident ensemble {folder} --method {methods}"
    if any(run.path.glob("events.out.tfevents.*")):
        files["TensorBoard"] = f"tensorboard --logdir {folder}"
    for what, where in files.items():
        console.print(f"{what:<12} {where}", markup=False, soft_wrap=True)
    return scores


def _scores_on_further_sets(
    candidates: Sequence[Candidate], session: Session, console: Console
) -> dict[str, dict[str, Scores]]:
    """By the name of the split, the scores of the kept checkpoints and their ensemble."""
    protocol, device = session.validation.predictor.protocol, session.process.device
    workers, bar = session.recipe.data.workers, partial(counted, console)
    return {
        split: score_together(
            candidates, session.further[name], protocol, device, workers, progress=bar(f"scoring {split}")
        )
        for name, split in scored_further(session.recipe.data).items()
    }


def _by_heading(scores: dict[str, Scores]) -> dict[str, Scores]:
    return {"ensemble (mean)" if name == ENSEMBLE else name: value for name, value in scores.items()}
