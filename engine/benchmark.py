"""python -m engine.benchmark model | data: our speed and memory beside others', on this machine."""

import argparse
import sys
from pathlib import Path

from engine.command import new_parser, run_command

EXAMPLES = """
examples:
  python -m engine.benchmark model
  python -m engine.benchmark data
  python -m engine.benchmark model --variants b0 --rounds 9 --out benchmarks/model-laptop.json
"""
BATCH_ON_CPU = {"b0": 2, "b1": 2}  # images a step; 1 for larger variants


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong."""
    parser = new_parser(
        "benchmark",
        "Measure side by side in one process: in turn, medians over rounds, ratios within a round. "
        "A peer that is not installed is named and left out.",
        EXAMPLES,
    )
    parser.add_argument(
        "subject",
        choices=["model", "data"],
        help="model: a training step and inference of SegFormer; data: random reads of packed images",
    )
    parser.add_argument("--variants", nargs="+", default=["b0", "b2"], choices=[f"b{n}" for n in range(6)])
    parser.add_argument(
        "--size", type=int, default=512, metavar="PX", help="side of the images of model (default 512)"
    )
    parser.add_argument("--batch", type=int, help="images a step (default: 32 on a GPU; 2 or 1 on a CPU)")
    parser.add_argument("--images", type=int, default=128, help="images of data (default 128)")
    parser.add_argument("--rounds", type=int, default=5, help="counted runs of each contender (default 5)")
    parser.add_argument("--out", type=Path, help="write all times as JSON here; an existing file is an error")
    return run_command(parser, benchmark, argv)


def benchmark(arguments: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON."""
    from rich.console import Console

    from engine.run_folder import RunFolderError, write_json

    if arguments.out and arguments.out.exists():
        raise RunFolderError(f"--out {arguments.out} exists already; name another file.")
    for name in ("rounds", "size", "batch", "images"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise RunFolderError(f"--{name} {getattr(arguments, name)}: at least 1.")
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    content = {"model": _model, "data": _data}[arguments.subject](arguments, console)
    if arguments.out:
        write_json(arguments.out, content)
        console.print(f"written: {arguments.out}")
    return 0


def _data(arguments: argparse.Namespace, console) -> dict:
    """Measure reading."""
    import torch
    from rich.table import Table

    from engine.benchmarks.data import OURS, SIZE_PX, measure
    from engine.benchmarks.timing import environment
    from engine.reporting.console import counted

    rows = measure(arguments.images, arguments.rounds, counted(console, f"{arguments.images} images"))
    facts = environment(torch.get_num_threads())
    h, w = SIZE_PX
    table = Table(
        title=f"images of {w} x {h} px with labels, uint8, in random order, one thread, page cache warm",
        title_justify="left",
    )
    table.add_column("read from")
    for heading in ("images/s", f"{OURS} is faster"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row["contender"], f"{row['images_per_s']:,.0f}", f"{row['times_faster']:.1f} x")
    console.print(table)
    return {"environment": facts, "size_px": SIZE_PX, "rows": rows}


def _model(arguments: argparse.Namespace, console) -> dict:
    """Measure SegFormer."""
    import torch
    from rich.table import Table

    from engine.benchmarks.model import PEERS, measure
    from engine.benchmarks.timing import environment, installed
    from engine.reporting.console import counted

    on_gpu = torch.cuda.is_available()
    rows: list[dict] = []
    for variant in arguments.variants:
        batch = arguments.batch or (32 if on_gpu else BATCH_ON_CPU.get(variant, 1))
        show = counted(console, f"{variant}, {batch} x {arguments.size} px")
        rows += measure(variant, batch, arguments.size, arguments.rounds, show)

    facts = environment(torch.get_num_threads())
    table = Table(
        title=f"SegFormer, float32, {facts['device']}, {facts['threads']} threads", title_justify="left"
    )
    for heading in ("variant", "batch", "what", "contender"):
        table.add_column(heading)
    for heading in ("images/s", "ours is faster", "peak MB"):
        table.add_column(heading, justify="right")
    for row in rows:
        peak = f"{row['peak_mb']:,.0f}" if "peak_mb" in row else ""
        table.add_row(
            row["variant"], str(row["batch"]), row["what"], row["contender"], f"{row['images_per_s']:.2f}",
            f"{row['times_faster']:.2f} x", peak,
        )  # fmt: skip
    console.print(table)
    for name, package in PEERS.items():
        if not installed(package):
            console.print(f"not installed, so not measured: {name} (pip install {package})")
    return {"environment": facts, "rows": rows}


if __name__ == "__main__":
    raise SystemExit(main())
