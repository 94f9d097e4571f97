"""trident diagnose RUN: its curve; --labels: suspicious ones; --next: images to label; --replay: NaN."""

import argparse
from pathlib import Path

from engine.command import add_overrides, new_console, new_parser, run_command
from engine.wording import quantity

EXAMPLES = """
examples:
  trident diagnose checkpoints/b2_adv
  trident diagnose checkpoints/b2_adv --out diagnosis     with the curve as a picture, and as JSON
  trident diagnose checkpoints/b2_adv --labels            suspicious labels of val
  trident diagnose checkpoints/b2_adv --labels --export labelme    and predictions to correct by hand
  trident diagnose checkpoints/b2_adv --labels --split trainaug data.root=/elsewhere/VOC2012
  trident diagnose checkpoints/b2_adv --next 100 --pool photos     which of these images to label next
  trident diagnose checkpoints/b2_adv --replay 1203       where did this update become NaN?

docs/diagnose.md explains each figure.
"""
NUM_SHOWN = 50  # suspects on the page
NUM_PRINTED = 10


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong."""
    parser = new_parser("diagnose", "Report what the files of a run show, and what to try next.", EXAMPLES)
    parser.add_argument("run", type=Path, help="a run folder; with --labels and --next also a saved ensemble")
    add_overrides(parser, "with --labels, --next and --replay: recipe values, such as data.root")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="a new folder to write to (default with --labels: RUN/labels-<split>; with --next: RUN/next)",
    )
    parser.add_argument(
        "--labels", action="store_true", help="rank images by how suspicious their labels are instead"
    )
    parser.add_argument(
        "--export",
        choices=["labelme", "coco"],
        help="with --labels: also write the predictions of the images on the page, to be corrected by hand",
    )
    parser.add_argument("--split", help="with --labels: the split (default: the recipe's data.val)")
    parser.add_argument(
        "--next",
        type=int,
        metavar="N",
        help="choose N images of --pool to label next: unsure, and no two alike",
    )
    parser.add_argument("--pool", type=Path, metavar="FOLDER", help="with --next: images without labels")
    parser.add_argument(
        "--replay",
        type=int,
        metavar="STEP",
        help="make this update again, and show which layer, loss term and sample was first NaN or infinite",
    )
    return run_command(parser, diagnose, argv)


def diagnose(arguments: argparse.Namespace) -> int:
    """Read, print, and write to --out if it is given."""
    if arguments.replay is not None:
        return _replay(arguments)
    if arguments.next is not None or arguments.pool:
        return _next(arguments)
    return _labels(arguments) if arguments.labels else _run(arguments)


def _replay(arguments: argparse.Namespace) -> int:
    from functools import partial

    from rich.markup import escape

    from engine.reporting.console import counted
    from engine.run_folder import RunFolder, RunFolderError, require_trained_alike
    from engine.training.distributed import process_group
    from engine.training.replay import replay

    given = [arguments.labels, arguments.split, arguments.out, arguments.export, arguments.pool]
    if any(given) or arguments.next is not None:
        raise RunFolderError(
            "--replay prints what it finds: leave --labels, --split, --export, --next, --pool and --out out."
        )
    require_trained_alike(arguments.overrides)
    console = new_console()
    with process_group() as process:
        found = replay(
            RunFolder(arguments.run),
            arguments.replay,
            arguments.overrides,
            process,
            partial(counted, console),
        )
    for line in found.lines():
        console.print(escape(line))
    return 0


def _run(arguments: argparse.Namespace) -> int:

    from engine.diagnosis import diagnosis_of, study
    from engine.reporting.diagnosis import draw_curve, print_diagnosis
    from engine.run_folder import RunFolderError, new_folder, write_json
    from engine.scoring.run import Run

    given = [
        *arguments.overrides,
        *["--split"] * bool(arguments.split),
        *["--export"] * bool(arguments.export),
    ]
    if given:
        raise RunFolderError(
            f"{given[0]}: without --labels only files "
            "of the run are read, so this has no effect. Leave it out, or add --labels."
        )
    if arguments.out:
        _require_new(arguments.out)
    run = Run(arguments.run)
    studies = study(run)
    diagnosis = diagnosis_of(run, studies)
    console = new_console()
    print_diagnosis(console, diagnosis, run.path)
    if arguments.out:
        with new_folder(arguments.out):
            write_json(arguments.out / "diagnosis.json", diagnosis.to_dict())
            if studies.growth:
                draw_curve(studies.growth, arguments.out / "curve.png")
        console.print(f"written: {arguments.out}", markup=False)
    return 0


def _labels(arguments: argparse.Namespace) -> int:
    import torch
    from rich.markup import escape

    from engine.data.rasters import require_geo
    from engine.diagnosis.label_check import LabelCheck
    from engine.diagnosis.suspects import LEAST_TRUST
    from engine.reporting.annotations import Export
    from engine.reporting.console import counted
    from engine.reporting.suspects import write_page, write_ranking
    from engine.run_folder import new_folder

    if arguments.export:
        require_geo()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check = LabelCheck(arguments.run, arguments.overrides, arguments.split, device)
    folder = arguments.run.parent.parent if arguments.run.is_file() else arguments.run
    out = arguments.out or folder / f"labels-{Path(check.split).name}"
    _require_new(out)
    console = new_console()
    if check.is_trained_on:
        console.print(
            f"[bold]The models were trained on the labels of {escape(check.split)}[/] and may have memorised "
            "wrong labels: one that ranks low may still be wrong."
        )
    if check.sees_more_than_scored:
        console.print("The recipe scores the centre of each image; here whole images are checked (native).")
    suspicion = check.run(counted(console, "predicting"))
    ranking = suspicion.ranking()
    if suspicion.trust < LEAST_TRUST:
        console.print(
            "[bold]The models are unsure of these classes themselves[/] (mean probability of a class where "
            f"it is the label: {suspicion.trust:.2f}): expect their own errors in the list."
        )
    console.print(
        f"{quantity(len(ranking), 'image')} of {escape(check.split)}, most suspicious labels first:"
    )
    for rank, suspect in enumerate(ranking[:NUM_PRINTED], 1):
        reason = suspect.reason(check.background)
        console.print(f"{rank:>3}  {100 * suspect.score:5.1f}  {escape(suspect.id)}  {reason}")
    with new_folder(out):
        write_ranking(out, ranking, check, suspicion)
        shown = check.show(ranking[:NUM_SHOWN])
        if arguments.export:
            names, background = check.trained.class_names, check.background
            shown = Export(out / arguments.export, arguments.export, names, background).passing(shown)
        page = write_page(out, shown, len(ranking), check, suspicion.trust)
    console.print(
        f"written: {page} (the first {min(NUM_SHOWN, len(ranking))} to look at), ranking.csv, ranking.json"
    )
    if arguments.export:
        console.print(
            f"written: {out / arguments.export}, predictions to correct, the most suspicious first",
            markup=False,
        )
    return 0


def _next(arguments: argparse.Namespace) -> int:
    import numpy as np
    import torch
    from rich.markup import escape

    from engine.data.sample import DataError
    from engine.diagnosis.next_labels import Pool, choose
    from engine.reporting.console import counted
    from engine.reporting.next_labels import NUM_SHOWN, write_next
    from engine.run_folder import RunFolderError, new_folder

    if arguments.next is None or not arguments.pool:
        raise RunFolderError("--next and --pool belong together: type --next 100 --pool <folder of images>")
    if arguments.labels or arguments.split or arguments.export:
        raise RunFolderError(
            "--next looks at images without labels: leave --labels, --split and --export out."
        )
    folder = arguments.run.parent.parent if arguments.run.is_file() else arguments.run
    out = arguments.out or folder / "next"
    _require_new(out)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pool = Pool(arguments.run, arguments.overrides, arguments.pool, arguments.next, out, device)
    console = new_console()
    if pool.num_members == 1:
        console.print(
            "[bold]One model[/]: images are ranked by the entropy of its prediction, which is high at "
            "outlines too. Members of an ensemble disagree about what they have not learnt."
        )
    if pool.on_masks:
        remedy = f"To choose from them too, move them into a new folder, such as {arguments.pool / 'more'}."
        console.print(f"{pool.on_masks} {remedy}", markup=False)
    if pool.num_trained_on:
        console.print(f"left out: {quantity(pool.num_trained_on, 'image')} that the run was trained on")
    measured = pool.measured(counted(console, "predicting"))
    for reason in pool.left_out:
        console.print(f"left out: {escape(reason)}")
    if not measured:
        raise DataError(f"No image of {arguments.pool} could be read.")
    bits = np.array([one.bits for one in measured])
    features = np.stack([one.features for one in measured])
    chosen = [measured[number] for number in choose(bits, features, min(arguments.next, len(measured)))]
    with new_folder(out):
        write_next(out, chosen, pool)
    for rank, one in enumerate(chosen[:NUM_PRINTED], 1):
        console.print(f"{rank:>3}  {one.bits:.4f} bits  {escape(one.image.place)}")
    console.print(
        f"written: {escape(str(out))}: next.txt ({quantity(len(chosen), 'image')} of {len(measured)}), "
        f"next.csv, next.jpg (the first {min(NUM_SHOWN, len(chosen))})"
    )
    return 0


def _require_new(folder: Path) -> None:
    from engine.run_folder import RunFolderError, require_folder

    require_folder(folder, "--out")
    if folder.exists():
        raise RunFolderError(
            f"{folder} exists already, and nothing is overwritten. Type --out <a new folder>."
        )


if __name__ == "__main__":
    raise SystemExit(main())
