"""python -m engine.ensemble FOLDER ...: score the best checkpoints of finished runs, alone and together."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from engine.command import new_parser, run_command

EXAMPLES = """
examples:
  python -m engine.ensemble checkpoints/
  python -m engine.ensemble checkpoints/b2_adv checkpoints/b4_adv --top 5
  python -m engine.ensemble checkpoints/ data.root=/elsewhere/VOC2012 eval.flip=true
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong."""
    parser = new_parser(
        "ensemble",
        "Find every run below the folders, take the best checkpoints among those of one data set and class "
        "list, score each and their mean probability on val at original size, write ensemble.json.",
        EXAMPLES,
    )
    parser.add_argument(
        "folders", nargs="+", metavar="folder | key.path=value", help="where runs lie; recipe values"
    )
    parser.add_argument("--top", type=int, default=3, help="members (default 3)")
    return run_command(parser, ensemble, argv)


def ensemble(arguments: argparse.Namespace) -> int:
    """Find, group, choose, score, print, write."""
    overrides = [text for text in arguments.folders if "=" in text]
    folders = [Path(text) for text in arguments.folders if "=" not in text]

    from rich.console import Console
    from rich.markup import escape

    from engine.run_folder import RunFolderError, find_runs, write_json

    if arguments.top < 1:
        raise RunFolderError(f"--top {arguments.top}: an ensemble has at least one member.")
    ignored = [text for text in overrides if not text.startswith(("data.", "eval."))]
    if ignored:
        raise RunFolderError(
            f"{ignored[0]}: what a finished run is made of cannot be changed here. Overrides may say where "
            "the data lies (data.root=...) and how it is scored (eval.flip=true, eval.scales=[0.5, 1.0])."
        )
    if not folders:
        raise RunFolderError("No folder was named; type python -m engine.ensemble checkpoints/")
    runs = list({run.path.resolve(): run for folder in folders for run in find_runs(folder)}.values())

    import torch

    from engine.data.skipping import skipped_ids
    from engine.reporting.console import counted, facts_below, scores_table
    from engine.scoring.ensembling import ensemble_report, group_candidates, open_val, score_together
    from engine.scoring.predictor import Protocol

    groups = group_candidates(runs)
    if not groups:
        raise RunFolderError(f"The {len(runs)} runs found have kept no checkpoint yet.")
    if len(groups) > 1:
        lines = [
            f"  {g.title}:\n    python -m engine.ensemble {shlex.join(str(r.path) for r in g.runs)}"
            for g in groups
        ]
        raise RunFolderError(
            "These runs are not about the same images and classes. Take one group:\n" + "\n".join(lines)
        )
    chosen = groups[0].candidates[: arguments.top]
    recipe, dataset = open_val(chosen[0], overrides)
    protocol = Protocol.of(recipe.eval)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print(
        f"found {len(runs)} run(s) on {groups[0].title}, {len(dataset)} images; the best checkpoints:"
    )
    for candidate in chosen:
        console.print(f"  {escape(str(candidate.path))}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scores = score_together(
        chosen, dataset, protocol, device, recipe.data.workers, progress=counted(console, "scoring")
    )
    console.print(scores_table(scores, dataset.class_names))
    console.print(facts_below(next(iter(scores.values())), skipped_ids(dataset), protocol.card()))
    folder = folders[0] if len(folders) == 1 else Path(os.path.commonpath([f.resolve() for f in folders]))
    out = folder / "ensemble.json"
    write_json(out, ensemble_report(chosen, scores, protocol, dataset, folder))
    console.print(f"written: {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
