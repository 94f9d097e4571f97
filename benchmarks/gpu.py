"""The first measurements on a GPU, in nine minutes: tests, updates, loss, augmentation, model, scoring.

    python benchmarks/gpu.py OUT                             nine minutes; OUT gets gpu.json, gpu.md, logs
    python benchmarks/gpu.py OUT --parts peers-b2 training   these alone; further parts take longer

What is measured is written after each part, so a machine that is taken away leaves what it did. Rows for
docs/gpu-log.md are in gpu.md.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.benchmarks.measuring import environment
from engine.benchmarks.model import LOSSES, NUM_CLASSES, contenders, training_step, upsampled_loss
from engine.recipe import load_recipe
from engine.scoring.timing import interleaved
from engine.training.distributed import Process
from engine.training.recorded import WARM_UP
from engine.training.session import build_session, torch_settings

ROOT = Path(__file__).parents[1]
PEAK_TFLOPS = 989.0  # bf16 without sparsity, of an H100 and an H200 (SXM) by NVIDIA's data sheets
ARMS = {
    "supervised": "adversarial=null",
    "discriminator at the logits": "adversarial={start: 0, ramp: 0, resolution: logits, layers: 2}",
    "discriminator at full size": "adversarial={start: 0, ramp: 0}",
}


@dataclass(frozen=True)
class Part:
    """A command with its limit."""

    command: list[str]
    limit_s: int


def parts(out: Path) -> dict[str, Part]:
    """By name, the most important first."""
    benchmark = ["-m", "engine.benchmark"]

    def measured(subject: str, *options: str) -> list[str]:
        return [*benchmark, subject, *options, "--out", str(out / f"{subject}.json")]

    return {
        "tests": Part(["-m", "pytest", "-q", "-m", "gpu", "tests"], 120),
        **{
            f"updates-{variant}": Part([__file__, str(out), "--updates", variant], limit)
            for variant, limit in (("b2", 110), ("b0", 80), ("b5", 80))
        },
        "loss": Part(measured("loss", "--rounds", "20"), 40),
        "augment": Part(measured("augment", "--batch", "32", "--rounds", "20"), 30),
        "model": Part(measured("model", "--variants", "b0", "b2"), 60),
        "score": Part(measured("score"), 20),
    }


def further_parts(out: Path) -> dict[str, Part]:
    """By name: what takes longer than the nine minutes, or needs two GPUs; chosen with --parts.

    The log of a training says images/s and which share of the time it waited for images; `training` is
    stopped after its ten minutes.
    """
    rest = ("b1", "b3", "b4")
    train = ["recipes/demo.yaml", "model.variant=b2", "train.batch=32", "augment.crop=512"]
    train += ["adversarial=null", "data.synthetic={size: 512, train_samples: 2000, val_samples: 64}"]
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "engine.run", *train]
    where = f"output.dir={out / 'runs'}"
    return {
        **{f"updates-{name}": Part([__file__, str(out), "--updates", name], 110) for name in rest},
        "updates-b2-max": Part([__file__, str(out), "--updates", "b2", "--compile", "max"], 300),
        **{f"peers-{name}": Part([__file__, str(out), "--peers", name], 240) for name in ("b0", "b2")},
        "depthwise": Part(["-m", "benchmarks.gpu_kernels", str(out), "depthwise"], 300),
        "attention": Part(["-m", "benchmarks.gpu_kernels", str(out), "attention"], 120),
        **{
            f"ensemble-{name}": Part(["-m", "benchmarks.gpu_ensemble", str(out), name], 400)
            for name in ("b0", "b2")
        },
        "training": Part(["-m", "engine.run", *train, "train.steps=10000", where, "name=one"], 600),
        "two-ddp": Part([*two, "train.steps=500", where, "name=two-ddp"], 300),
        "two-sharded": Part([*two, "train.steps=500", "train.shard=true", where, "name=two-sharded"], 300),
        "two-tests": Part(["-m", "pytest", "-q", "-m", "gpu2", "tests"], 120),
    }


def main(argv: list[str] | None = None) -> int:
    """Exit code 1 where a part failed or ran past its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder")
    names = [*parts(Path()), *further_parts(Path())]
    parser.add_argument("--parts", nargs="+", choices=names, help="default: those of the nine minutes")
    parser.add_argument(
        "--updates", metavar="VARIANT", help="measure the updates of one variant, in this process"
    )
    parser.add_argument("--compile", default="auto", help="train.compile, for --updates")
    parser.add_argument("--peers", metavar="VARIANT", help="measure it beside other libraries, all compiled")
    parser.add_argument("--backend", default="inductor", help="of torch.compile, for --peers")
    parser.add_argument("--size", type=int, default=512, metavar="PX")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args(argv)
    arguments.out = arguments.out.resolve()  # the parts run in another folder
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.peers:
        rows = peers(arguments.peers, arguments.size, arguments.batch, arguments.rounds, arguments.backend)
        (arguments.out / f"peers-{arguments.peers}.json").write_text(json.dumps({"rows": rows}, indent=1))
        return 0
    if arguments.updates:
        rows = updates(
            arguments.updates, arguments.size, arguments.batch, arguments.rounds, arguments.compile
        )
        name = f"updates-{arguments.updates}{'' if arguments.compile == 'auto' else f'-{arguments.compile}'}"
        (arguments.out / f"{name}.json").write_text(json.dumps({"rows": rows}, indent=1))
        return 0
    by_default = parts(arguments.out)
    known = by_default | further_parts(arguments.out)
    results = {}
    for name in arguments.parts or by_default:
        results[name] = run(name, known[name], arguments.out)
        print(f"{name}: {results[name]}", flush=True)
        found = {"environment": environment(torch.get_num_threads()), "parts": results}
        (arguments.out / "gpu.json").write_text(json.dumps(found, indent=1))
        (arguments.out / "gpu.md").write_text(markdown(arguments.out, found))
    return int(any(result != "done" for result in results.values()))


def run(name: str, part: Part, out: Path) -> str:
    """What came of a part; its output is in <name>.log."""
    with (out / f"{name}.log").open("w") as log:
        try:
            command = [sys.executable, *part.command]
            done = subprocess.run(
                command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=part.limit_s, check=False
            )
        except subprocess.TimeoutExpired:
            return f"stopped after {part.limit_s} s"
    return "done" if done.returncode == 0 else f"exit code {done.returncode}"


def updates(
    variant: str, size_px: int, batch: int, rounds: int, compiles: str = "auto"
) -> list[dict[str, object]]:
    """Rows of {variant, batch, size_px, arm, seconds, images_per_s, peak_mb, mfu} of whole updates, in turn.

    As the recipe says, so in bf16 on a GPU, on one batch of drawn scenes that is there already; compiled as
    `train.compile` says, which is in the name of the arm where it is not auto.
    `mfu` counts the model's matrix products and convolutions, forward and backward, against PEAK_TFLOPS;
    `peak_mb` is what one arm allocates, without the others; both are None on a CPU.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    lines = [f"model.variant={variant}", f"train.batch={batch}", f"augment.crop={size_px}", "data.workers=0"]
    lines += [f"train.compile={compiles}"]
    lines += [f"data.synthetic={{size: {size_px}, train_samples: {batch}, val_samples: 1}}"]
    calls, peaks, flops = {}, {}, 0
    with torch_settings(False, device):
        for arm, switch in ARMS.items():
            of_others = torch.cuda.memory_allocated()  # the arms before stay, as all are timed in turn
            recipe = load_recipe(ROOT / "recipes/demo.yaml", [*lines, switch])
            session = build_session(recipe, Process(0, 1, device), lambda what: lambda done, total: None)
            drawn = next(session.batches.starting_at(0))
            if not flops:
                with FlopCounterMode(display=False) as counter:
                    session.step.model(drawn.images[:1]).sum().backward()
                session.step.model.zero_grad()
                flops = counter.get_total_flops() * batch
            step = session.step
            step(drawn)  # compiles
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
                for _ in range(WARM_UP):  # with train.compile=max the last one is recorded, and needs memory
                    step(drawn)
                peaks[arm] = (torch.cuda.max_memory_allocated() - of_others) / 2**20
            calls[arm] = lambda step=step, drawn=drawn: step(drawn)
        seconds = interleaved(calls, rounds, lambda done, total: None)
    return [
        {"variant": variant, "batch": batch, "size_px": size_px, "seconds": times}
        | {"arm": arm if compiles == "auto" else f"{arm}, train.compile={compiles}"}
        | {"images_per_s": batch / median(times), "peak_mb": peaks.get(arm)}
        | {"mfu": flops / median(times) / (PEAK_TFLOPS * 1e12) if on_gpu else None}
        for arm, times in seconds.items()
    ]


def peers(variant: str, size_px: int, batch: int, rounds: int, backend: str) -> list[dict[str, object]]:
    """Rows of {variant, batch, size_px, arm, seconds, images_per_s, peak_mb, mfu}: forward, loss, backward.

    Each model is compiled and in bf16 autocast, that of transformers with SDPA, which is its default. Peak
    memory and MFU are None: `updates` has those of ours.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = 255 * torch.rand(batch, 3, size_px, size_px, device=device)
    labels = torch.randint(0, NUM_CLASSES, (batch, size_px, size_px), device=device)

    calls = {}
    for name, build in contenders().items():
        model = torch.compile(build(variant).to(device), backend=backend)
        model.forward = torch.autocast(device.type, torch.bfloat16)(model.forward)  # as in fit
        loss = LOSSES.get(name, upsampled_loss)
        calls[f"{name}, compiled"] = partial(training_step, model, loss, images, labels)
    seconds = interleaved(calls, rounds, lambda done, total: None)
    return [
        {"variant": variant, "batch": batch, "size_px": size_px, "arm": name, "seconds": times}
        | {"images_per_s": batch / median(times), "peak_mb": None, "mfu": None}
        for name, times in seconds.items()
    ]


def markdown(out: Path, found: dict[str, dict[str, object]]) -> str:
    """The parts, and the updates as rows of docs/gpu-log.md."""
    facts = found["environment"]
    lines = [f"{facts['date']}, {facts['device']}, torch {torch.__version__}", ""]
    lines += [f"- {name}: {result}" for name, result in found["parts"].items()]
    lines += ["", "| date | what | ms | images/s | peak MB | MFU |", "|---|---|---:|---:|---:|---:|"]
    for path in sorted([*out.glob("updates-*.json"), *out.glob("peers-*.json")]):
        for row in json.loads(path.read_text())["rows"]:
            what = f"{row['variant'].upper()}, {row['size_px']} px, batch {row['batch']}, {row['arm']}"
            peak = f"{row['peak_mb']:,.0f}" if row["peak_mb"] else "-"
            mfu = f"{row['mfu']:.1%}" if row["mfu"] else "-"
            ms = f"{1000 * median(row['seconds']):.1f}"
            lines += [f"| {facts['date']} | {what} | {ms} | {row['images_per_s']:,.0f} | {peak} | {mfu} |"]
    tables = (out / f"{name}.md" for name in found["parts"])  # of parts that write their own
    return "\n".join([*lines, "", *(path.read_text() for path in tables if path.is_file())]) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
