"""trident evaluate RUN: score a run, a checkpoint or an ensemble."""

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.command import add_tiling, new_console, new_parser, paths_and_overrides, run_command
from engine.run_folder import (
    RunFolderError,
    require_folder,
    require_trained_alike,
    write_json,
    written_in_place,
)
from engine.scoring.options import PROTOCOLS
from engine.scoring.protocols import EvaluationProtocol
from engine.wording import quantity

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from engine.data.sample import Dataset
    from engine.scoring.results import EvaluationResult
    from engine.scoring.tempered import Tempered, Tempering
    from engine.scoring.tiles import Tiling
    from engine.scoring.trained import Trained

OUTPUTS = ("evaluate.json", "scores.h5", "reliability.png", "precision_recall.png", "worst.png")
EXAMPLES = """
protocols:
  native      each image at its original size
  mmseg       resized to fit (2048, 512), ratio kept; logits go back to the original size
  paddle      padded with grey to 512 x 512
  centercrop  the centre square at 513 x 513; the rest of the image is not scored
  slide       windows of eval.window px every eval.stride px
  all         each of them, side by side

examples:
  trident evaluate checkpoints/b2_adv
  trident evaluate checkpoints/b2_adv/top/step-0040000.safetensors --protocol all
  trident evaluate checkpoints/b2_adv eval.flip=true eval.scales=[0.5,1.0] --worst 12 --out scored
  trident evaluate checkpoints/b2_adv --protocol slide eval.stride=341 --split train
  trident evaluate checkpoints/two_sets --split photos/val        of the set photos alone
  trident evaluate checkpoints/b2_adv --tile 1024 --overlap 128

With --tile images of any size are predicted by overlapping tiles, which are blended, as trident predict does;
image and mask are read in parts.
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong."""
    parser = new_parser(
        "evaluate",
        "Score a run (its best checkpoint), a checkpoint of its top/, or a saved ensemble, at original size. "
        "Every number comes with its protocol card.",
        EXAMPLES,
    )
    add = parser.add_argument
    add(
        "trained", nargs="+", metavar="run | checkpoint | key.path=value", help="what to score; recipe values"
    )
    add("--protocol", choices=(*PROTOCOLS, "all"), help="evaluation protocol (default: that of the run)")
    add("--split", help="split to score (default: the run's val, of each set)")
    add("--worst", type=int, default=0, metavar="N", help="picture of the N images with the lowest mIoU")
    add_tiling(parser)
    add("--step", type=int, help="step of a run's kept checkpoint (default: the best one)")
    add("--out", type=Path, metavar="DIR", help=f"folder for {', '.join(OUTPUTS)}")
    return run_command(parser, evaluate, argv)


@dataclass(frozen=True)
class _Job:
    """One split, what scores it, and the folder for the files about it, if they are asked for."""

    trained: "Trained"
    dataset: "Dataset"
    split: str
    out: Path | None
    device: "torch.device"
    console: "Console"


def evaluate(arguments: argparse.Namespace) -> int:
    """Open, and score each set, or the split that is asked for."""
    named, typed = paths_and_overrides(arguments.trained)
    _check(arguments, named, typed)

    import torch
    from rich.markup import escape

    from engine.data import open_split
    from engine.data.sets import scored_further, told_of_sets
    from engine.scoring.results import open_for_scoring

    console = new_console()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    is_named = arguments.protocol not in (None, "all")
    overrides = [*typed, *[f"eval.protocol={arguments.protocol}"] * is_named]
    path = Path(named[0])
    trained, dataset, split = open_for_scoring(path, overrides, arguments.split, device, arguments.step)
    further = scored_further(trained.recipe.data) if arguments.split is None else {}
    if arguments.split == trained.recipe.data.val and trained.recipe.data.also:
        console.print(escape(f"{told_of_sets(trained.recipe.data)} Without --split each val is scored."))
    for line in _without_effect(typed, trained, dataset, arguments):
        console.print(line, markup=False)
    datasets = {"": (split, dataset)}
    datasets |= {name: (of_set, open_split(trained.recipe.data, of_set)) for name, of_set in further.items()}
    for name in further if arguments.out else ():
        require_folder(arguments.out / name, "--out")
        _require_unused(arguments.out / name)
    for name, (of_set, images) in datasets.items():
        out = arguments.out / name if arguments.out else None
        _score(_Job(trained, images, of_set, out, device, console), arguments)
    return 0


def _score(job: _Job, arguments: argparse.Namespace) -> None:
    """Score one split under each protocol, print, write."""
    from rich.markup import escape

    from engine.data.gdal import rasterio_module
    from engine.data.sample import skipped_ids
    from engine.reporting.calibration import calibration_table, tempering_of
    from engine.reporting.console import skipped_images
    from engine.reporting.evaluation import card, chosen_thresholds, classes_table, means_table
    from engine.scoring.statistics import few_images
    from engine.scoring.tiles import Tiling

    tiling = Tiling.of(arguments.tile, arguments.overlap)
    trained, dataset, split, console = job.trained, job.dataset, job.split, job.console
    images = f"{quantity(len(dataset), 'image')}{_earlier_use(trained, dataset, split)}"
    console.print(escape(f"{trained.name} on {split}, {images}"))
    if said := chosen_thresholds(trained):
        console.print(escape(said))
    own = EvaluationProtocol.of(trained.recipe.eval)
    protocols = [replace(own, name=name) for name in PROTOCOLS] if arguments.protocol == "all" else [own]
    if tiling:
        _require_whole(protocols)
        rasterio_module()
    tempering = None
    if not _why_no_temperature(trained, arguments):
        is_typed = _names_select(trained, arguments)
        tempering = tempering_of(trained, (split, dataset), own, job.device, is_typed, console)
    results = _results(job, protocols, tiling, arguments.worst, tempering)
    console.print(classes_table(results), means_table(results), card(results))
    result = next(iter(results.values()))
    after = tempering.result() if tempering else None
    if after:
        console.print(calibration_table(result, after))
    if few := few_images(len(dataset) - len(skipped_ids(dataset)), *result.image_range):
        console.print(f"[bold]{few}[/]")
    if skipped_ids(dataset):
        console.print(f"[bold]Not scored:[/] {skipped_images(skipped_ids(dataset))}")
    if job.out:
        _write(job, job.out, results, after, protocols[0])
        console.print(f"written: {job.out}", markup=False)


def _without_effect(
    typed: list[str], trained: "Trained", dataset: "Dataset", arguments: argparse.Namespace
) -> list[str]:
    """A sentence for each value that was typed and changes nothing here."""
    from engine.data.overlap import image_files
    from engine.data.ranges import told_of_unused_range
    from engine.scoring.overrides import told_of_no_effect

    protocols = PROTOCOLS if arguments.protocol == "all" else [trained.recipe.eval.protocol]
    lines = told_of_no_effect(typed, protocols, data_format=trained.recipe.data.format)
    lines += told_of_unused_range(typed, image_files(dataset))
    if arguments.protocol and any(text.startswith("eval.protocol=") for text in typed):
        lines.append(f"eval.protocol has no effect here: --protocol {arguments.protocol} is typed, too.")
    why_not = _why_no_temperature(trained, arguments)
    if why_not and _names_select(trained, arguments):
        what = "It names the split on which the temperature of an ensemble is fitted."
        lines.append(f"data.select has no effect here: {why_not}. {what}")
    return lines


def _names_select(trained: "Trained", arguments: argparse.Namespace) -> bool:
    """Whether a split of the selection was typed, which data.select=null is not."""
    is_typed = any(text.startswith("data.select=") for text in arguments.trained)
    return is_typed and trained.recipe.data.select is not None


def _why_no_temperature(trained: "Trained", arguments: argparse.Namespace) -> str | None:
    """Why no temperature is fitted on data.select; None where one is."""
    if len(trained.members) == 1:
        return f"{trained.name} is a single model"
    if trained.kind.is_multi:
        return "a pixel may have several classes (data.labels: multi)"
    if arguments.tile:
        return "with --tile no calibration is fitted"
    return "several protocols are scored" if arguments.protocol == "all" else None


def _earlier_use(trained: "Trained", dataset: "Dataset", split: str) -> str:
    """What the images were used for before, to go after their number."""
    from engine.scoring.training_images import num_trained_on, trained_on

    if seen := trained_on(num_trained_on(trained, dataset), len(dataset)):
        return f". {seen}"
    if split in [section.select for section in trained.training_data]:
        return "; its checkpoints were chosen on them"
    is_its_val = dataset.fingerprint() == trained.data.val_fingerprint
    return "" if is_its_val else "; not the images on which its checkpoints were chosen"


def _results(
    job: _Job,
    protocols: Sequence[EvaluationProtocol],
    tiling: "Tiling | None",
    num_worst: int,
    tempering: "Tempering | None",
) -> dict[str, "EvaluationResult"]:
    """By protocol; the counts of each image are written, and the worst images listed for the first one."""
    from engine.data.sample import skipped_ids
    from engine.reporting.console import counted
    from engine.scoring.results import evaluate_trained
    from engine.scoring.scores_file import Recorder, recorder

    dataset = job.dataset
    file: AbstractContextManager[Recorder | None] = nullcontext()
    if job.out:
        job.out.mkdir(parents=True, exist_ok=True)
        names, is_multi = [protocol.name for protocol in protocols], job.trained.kind.is_multi
        skipped = partial(skipped_ids, dataset)
        file = recorder(job.out / "scores.h5", dataset.ids, dataset.class_names, names, skipped, is_multi)
    with file as record:
        return {
            protocol.name: evaluate_trained(
                protocol,
                job.trained,
                dataset,
                job.split,
                job.device,
                num_worst=num_worst if protocol is protocols[0] else 0,
                on_batch=record,
                progress=counted(job.console, protocol.name),
                tiling=tiling,
                on_tile=_shown_tiles(job.console),
                on_pixels=tempering,
            )
            for protocol in protocols
        }


def _require_whole(protocols: Sequence[EvaluationProtocol]) -> None:
    """Raises RunFolderError where a protocol leaves a part of each image out, as tiles cannot."""
    if parts := [protocol.name for protocol in protocols if not protocol.is_whole]:
        raise RunFolderError(
            f"--tile scores all of an image, and {parts[0]} a part of it. Name another protocol: "
            "--protocol=native"
        )


def _shown_tiles(console: "Console") -> Callable[[str, int, int], None]:
    """A callback (id, tiles done, all tiles) that shows a bar for each image."""
    from engine.reporting.console import counted

    shown: dict[str, Callable[[int, int], None]] = {}

    def show(id: str, done: int, total: int) -> None:
        if done == 1:
            shown[id] = counted(console, f"tiles of {id}")
        shown[id](done, total)
        if done == total:
            del shown[id]

    return show


def _check(arguments: argparse.Namespace, named: list[str], overrides: list[str]) -> None:
    """Raises RunFolderError where arguments are missing or out of range."""
    if len(named) != 1:
        raise RunFolderError(
            f"Expected one run, checkpoint or ensemble, got {len(named)}: type "
            "trident evaluate checkpoints/<run>"
        )
    require_trained_alike(overrides)
    if arguments.worst < 0:
        raise RunFolderError(f"--worst {arguments.worst}: expected a number of images, at least 0.")
    if arguments.worst and not arguments.out:
        raise RunFolderError(
            f"--worst {arguments.worst} draws a picture: name its folder with --out <folder>."
        )
    if arguments.worst and arguments.tile:
        raise RunFolderError(
            f"--worst {arguments.worst} draws whole images, and --tile holds none: leave one of them out."
        )
    if arguments.out:
        require_folder(arguments.out, "--out")
        _require_unused(arguments.out)


def _require_unused(out: Path) -> None:
    """Raises RunFolderError where a file that would be written exists."""
    if taken := [name for name in OUTPUTS if (out / name).exists()]:
        raise RunFolderError(f"{out / taken[0]} exists already; name another folder with --out.")


def _write(
    job: _Job,
    out: Path,
    results: dict[str, "EvaluationResult"],
    after: "Tempered | None",
    protocol: EvaluationProtocol,
) -> None:
    """The scores, and pictures of those under `protocol`."""
    from engine.reporting.evaluation import recall_plot, reliability_plot, worst_sheet

    trained, dataset = job.trained, job.dataset
    content = {
        "name": trained.name,
        "fingerprint": dataset.fingerprint(),
        "class_names": list(dataset.class_names),
        "protocols": {name: result.to_dict() for name, result in results.items()},
    }
    if after:
        content["tempered"] = asdict(after)
    write_json(out / "evaluate.json", content)
    if trained.kind.is_multi:
        plot, figure = "precision_recall.png", recall_plot(results[protocol.name])
    else:
        plot, figure = "reliability.png", reliability_plot(results)
    with written_in_place(out / plot) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    worst = results[protocol.name].worst
    if worst:
        with written_in_place(out / "worst.png") as temporary:
            worst_sheet(worst, trained, protocol, dataset, job.device).save(temporary, format="PNG")


if __name__ == "__main__":
    raise SystemExit(main())
