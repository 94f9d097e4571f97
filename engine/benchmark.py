"""trident benchmark model | zoo | loss | augment | data | decode | score | job: next to other libraries."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from engine.command import new_console, new_parser, recipe_file, run_command

EXAMPLES = """
subjects:
  model      a training step and inference of SegFormer
  zoo        a training step of architectures of segmentation_models_pytorch
  loss       cross-entropy + Dice, forward and backward
  augment    warp and colour of a batch
  data       random reads of packed images
  decode     JPEG decoders; with --root on photos
  score      counting a confusion matrix, sliding windows, scoring a split
  job        a whole training and its ensemble, next to a script written by hand; needs --root

examples:
  trident benchmark model
  trident benchmark loss --classes 21 150
  trident benchmark model --variants b0 --rounds 9 --out benchmarks/model-laptop.json
  trident benchmark job --root data/VOCdevkit/VOC2012 --seeds 3 --out benchmarks/job-laptop.json
"""
BATCH_ON_CPU = {"b0": 2, "b1": 2}  # images per step of `model`; 1 for larger variants
Rows = list[dict[str, Any]]
Show = Callable[[str], Callable[[int, int], None]]


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong."""
    parser = new_parser(
        "benchmark",
        "Measure contenders in turn in one process: medians over rounds, ratios within a round. "
        "A peer that is not installed is named and left out.",
        EXAMPLES,
    )
    parser.add_argument("subject", choices=SUBJECTS, help=", ".join(SUBJECTS), metavar="SUBJECT")
    parser.add_argument("--variants", nargs="+", default=["b0", "b2"], choices=[f"b{n}" for n in range(6)])
    parser.add_argument(
        "--classes",
        nargs="+",
        type=int,
        default=[21, 150],
        help="numbers of classes of loss (default 21 150)",
    )
    parser.add_argument(
        "--size", type=int, default=512, metavar="PX", help="side of the images, not of data (default 512)"
    )
    parser.add_argument(
        "--batch", type=int, help="images per step (default: 32 on a GPU; on a CPU 1, 2 or 8)"
    )
    parser.add_argument(
        "--images", type=int, default=128, help="number of images for data and decode (default 128)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="counted runs of each contender (default 5)")
    parser.add_argument("--root", type=Path, help="folder of photos in the layout of VOC, for decode and job")
    job = parser.add_argument_group("job")
    job.add_argument(
        "--lists",
        nargs=2,
        default=["trainaug", "val"],
        metavar=("TRAIN", "VAL"),
        help="default: trainaug val",
    )
    job.add_argument("--recipe", default="lite0_photos", help="default: lite0_photos")
    job.add_argument("--updates", type=int, default=800, help="of the model (default 800)")
    job.add_argument("--seeds", type=int, default=3, help="trainings of each contender (default 3)")
    job.add_argument(
        "--work",
        type=Path,
        default=Path("benchmark-job"),
        help="folder of the trainings; what is finished there is not trained again (default benchmark-job)",
    )
    parser.add_argument("--out", type=Path, help="write all times as JSON here; an existing file is an error")
    return run_command(parser, benchmark, argv)


def benchmark(arguments: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON."""
    import torch

    from engine.benchmarks.measuring import environment
    from engine.reporting.console import counted
    from engine.run_folder import RunFolderError, require_new_file, write_json

    outputs = [arguments.out, arguments.out.with_suffix(".png")] if arguments.out else []
    for path in outputs:
        require_new_file(path)
    for name in ("rounds", "size", "batch", "images", "updates", "seeds"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise RunFolderError(f"--{name} {getattr(arguments, name)}: at least 1.")
    if min(arguments.classes) < 2:
        raise RunFolderError(f"--classes {min(arguments.classes)}: at least 2.")
    console = new_console()
    facts = environment(torch.get_num_threads())
    where = f"{facts['device']}, {facts['threads']} threads"
    title, columns, rows = SUBJECTS[arguments.subject](arguments, lambda what: counted(console, what))
    console.print(_table(f"{title} ({where})", columns, rows))
    for line in _missing_peers(arguments.subject):
        console.print(line)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out, {"environment": facts, "rows": rows})
        console.print(f"written: {arguments.out}", markup=False)
        if arguments.subject == "job":
            from engine.benchmarks.job import plot

            plot(rows, arguments.out.with_suffix(".png"))
            console.print(f"written: {arguments.out.with_suffix('.png')}", markup=False)
    return 0


Column = Callable[[dict[str, Any]], str]  # of a row
Measured = tuple[str, dict[str, Column], Rows]  # title, columns by heading, rows


def _model(arguments: argparse.Namespace, show: Show) -> Measured:
    import torch

    from engine.benchmarks.model import measure

    rows: Rows = []
    for variant in arguments.variants:
        on_cpu = BATCH_ON_CPU.get(variant, 1)
        batch = arguments.batch or (32 if torch.cuda.is_available() else on_cpu)
        bar = show(f"{variant}, {batch} x {arguments.size} px")
        rows += measure(variant, batch, arguments.size, arguments.rounds, bar)
    columns: dict[str, Column] = {
        "variant": lambda row: row["variant"],
        "batch": lambda row: str(row["batch"]),
        "what": lambda row: row["what"],
        "contender": lambda row: row["contender"],
        "images/s": lambda row: f"{row['images_per_s']:.2f}",
        "ours is faster": _faster,
        "peak MB": lambda row: f"{row['peak_mb']:,.0f}" if "peak_mb" in row else "",
    }
    return "SegFormer, float32", columns, rows


def _zoo(arguments: argparse.Namespace, show: Show) -> Measured:
    from engine.benchmarks.zoo import measure

    rows = measure(arguments.batch or 8, arguments.size, arguments.rounds, show)
    columns: dict[str, Column] = {
        "architecture": lambda row: row["arch"],
        "encoder": lambda row: row["encoder"],
        "contender": lambda row: row["contender"],
        "images/s": lambda row: f"{row['images_per_s']:.2f}",
        "ours is faster": _faster,
    }
    title = f"training step with cross-entropy + Dice, {arguments.batch or 8} x {arguments.size} px, float32"
    return title, columns, rows


def _loss(arguments: argparse.Namespace, show: Show) -> Measured:
    import torch

    from engine.benchmarks.loss import measure

    batch = arguments.batch or (32 if torch.cuda.is_available() else 1)
    rows: Rows = []
    for num_classes in arguments.classes:
        bar = show(f"{num_classes} classes, {batch} x {arguments.size} px")
        rows += measure(num_classes, batch, arguments.size, arguments.rounds, bar)
    columns: dict[str, Column] = {
        "classes": lambda row: str(row["classes"]),
        "threads": lambda row: str(row["threads"]),
        "contender": lambda row: row["contender"],
        "ms per step": lambda row: f"{1000 * row['median_s']:.1f}",
        "ours is faster": _faster,
        "peak MB per image": lambda row: f"{row['peak_mb']:,.1f}",
    }
    title = f"cross-entropy + Dice, forward and backward, {batch} x {arguments.size} px"
    return title, columns, rows


def _augment(arguments: argparse.Namespace, show: Show) -> Measured:
    from engine.benchmarks.augment import measure

    batch = arguments.batch or 8
    bar = show(f"augment, {batch} x {arguments.size} px")
    rows = measure(batch, arguments.size, arguments.rounds, bar)
    columns: dict[str, Column] = {
        "contender": lambda row: row["contender"],
        "ms per batch": lambda row: f"{1000 * batch / row['images_per_s']:.1f}",
        "images/s": lambda row: f"{row['images_per_s']:.0f}",
        "ours is faster": _faster,
    }
    title = f"flip, affine, crop, colour with hue: {batch} x {arguments.size} px, images and labels"
    return title, columns, rows


def _data(arguments: argparse.Namespace, show: Show) -> Measured:
    from engine.benchmarks.data import SIZE_PX, measure

    rows = measure(arguments.images, arguments.rounds, show(f"{arguments.images} images"))
    columns: dict[str, Column] = {
        "read from": lambda row: row["contender"],
        "images/s": lambda row: f"{row['images_per_s']:,.0f}",
        "pack, decoded, is faster": _faster,
    }
    h, w = SIZE_PX
    title = f"images of {w} x {h} px with labels, uint8, in random order, one thread, page cache warm"
    return title, columns, rows


def _decode(arguments: argparse.Namespace, show: Show) -> Measured:
    from engine.benchmarks.decode import measure

    rows = measure(arguments.root, arguments.images, arguments.rounds, show("decode"))
    columns: dict[str, Column] = {
        "decoder": lambda row: row["contender"],
        "ms per image": lambda row: f"{1000 / row['images_per_s']:.2f}",
        "images/s": lambda row: f"{row['images_per_s']:,.0f}",
        "faster than ours": _faster,
        "same pixels": lambda row: f"{row['same']} of {row['num_images']}",
    }
    return "JPEG files in memory to (3, h, w) uint8, one thread", columns, rows


def _score(arguments: argparse.Namespace, show: Show) -> Measured:
    from engine.benchmarks.score import measure

    columns: dict[str, Column] = {
        "what": lambda row: row["what"],
        "contender": lambda row: row["contender"],
        "ms": lambda row: f"{1000 * row['median_s']:,.2f}",
        "ours is faster": _faster,
    }
    return "scoring of an image", columns, measure(arguments.size, arguments.rounds, show)


def _job(arguments: argparse.Namespace, show: Show) -> Measured:
    from engine.benchmarks.job import Job, measure
    from engine.run_folder import RunFolderError

    if arguments.root is None:
        raise RunFolderError("benchmark job needs --root, a folder of photos in the layout of VOC.")
    job = Job(
        root=arguments.root,
        recipe=recipe_file(arguments.recipe),
        updates=arguments.updates,
        seeds=range(arguments.seeds),
        work=arguments.work,
        train=arguments.lists[0],
        val=arguments.lists[1],
    )

    def mean(row: dict[str, Any], name: str) -> str:
        values = row.get(name)
        return f"{sum(values) / len(values):,.{4 if 'difference' in row else 1}f}" if values else ""

    def gap(row: dict[str, Any]) -> str:
        if "ratio" in row:
            return f"{row['ratio']:.2f} x"
        return f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"

    columns: dict[str, Column] = {
        "mean over the seeds": lambda row: row["what"],
        "script": lambda row: mean(row, "script"),
        "trident": lambda row: mean(row, "trident"),
        "difference [95 %], or ratio": gap,
    }
    title = f"{arguments.recipe} next to a plain script, {job.updates} updates, {arguments.seeds} seeds"
    return title, columns, measure(job, show("trainings"))


SUBJECTS: dict[str, Callable[[argparse.Namespace, Show], Measured]] = {
    "model": _model,
    "zoo": _zoo,
    "loss": _loss,
    "augment": _augment,
    "data": _data,
    "decode": _decode,
    "score": _score,
    "job": _job,
}


def _faster(row: dict[str, Any]) -> str:
    return f"{row['times_faster']:.2f} x"


def _table(title: str, columns: dict[str, Column], rows: Rows):  # type: ignore[no-untyped-def]
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    texts = [[column(row) for column in columns.values()] for row in rows]
    for number, heading in enumerate(columns):
        is_text = any(text[number][:1].isalpha() for text in texts)
        table.add_column(heading, justify="left" if is_text else "right")
    for text in texts:
        table.add_row(*text)
    return table


def _missing_peers(subject: str) -> Iterable[str]:
    """Which libraries were not measured, as they are not installed."""
    from engine.benchmarks import loss, model, score
    from engine.benchmarks.measuring import installed

    peers = {"model": model.PEERS, "loss": loss.PEERS, "score": score.PEERS}.get(subject, {})
    for name, package in peers.items():
        if not installed(package):
            yield f"not installed, so not measured: {name} (pip install {package})"


if __name__ == "__main__":
    raise SystemExit(main())
