"""Three members of an ensemble on one GPU in several ways: how long their logits take.

    python -m benchmarks.gpu_ensemble OUT b0

OUT gets ensemble-b0.json and ensemble-b0.md. Weights and images are random. In float32, as ensembles are
scored, and with autocast to bf16. `difference` is the largest from members that run one after another, over
the largest logit. The batched forward pass is that of a model whose layout is a permutation, as `vmap` has no
rule for `contiguous(memory_format=...)`, and has all weights in bf16, as autocast has no effect in `vmap`. A
way that does not run has a row that says why.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.graphs import recorded
from engine.benchmarks.measuring import environment, ratio
from engine.scoring.timing import interleaved
from models.segformer import SegFormer

MEMBERS, NUM_CLASSES = 3, 21
ONE, IN_TURN = "one member", "one after another"
Members = list[SegFormer]
Call = Callable[[], Tensor]  # -> (members, B, K, h, w) float32


class Permuted(SegFormer):
    """SegFormer with the layout of its input as a permutation; for sides that are multiples of 32."""

    def forward(self, image: Tensor) -> Tensor:
        x = (image - self.mean) / self.std
        return self.head(self.encoder(x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder")
    parser.add_argument("variant", help="b0 to b5")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--size", type=int, default=512, metavar="PX", help="a multiple of 32")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    members = [SegFormer(arguments.variant, NUM_CLASSES).to(device).eval() for _ in range(MEMBERS)]
    rows: list[dict[str, Any]] = []
    for batch in arguments.batches:
        images = 255 * torch.rand(batch, 3, arguments.size, arguments.size, device=device)
        for dtype in (torch.float32, torch.bfloat16):
            about = {"variant": arguments.variant, "batch": batch, "size_px": arguments.size}
            about |= {"precision": str(dtype).removeprefix("torch.")}
            with torch.no_grad():
                found = measure(ways(members, images, dtype, arguments.backend), batch, arguments.rounds)
            rows += [about | row for row in found]
            written = {"environment": environment(torch.get_num_threads()), "rows": rows}
            path = arguments.out / f"ensemble-{arguments.variant}.json"
            path.write_text(json.dumps(written, indent=1))
            path.with_suffix(".md").write_text(markdown(rows))
    print(markdown(rows))
    return 0


def ways(members: Members, images: Tensor, dtype: torch.dtype, backend: str) -> dict[str, Call]:
    """By name; `one after another` is what Trident does."""
    torch.compiler.reset()
    compiled = partial(torch.compile, backend=backend, dynamic=False)
    B, _, H, W = images.shape
    shape = B, NUM_CLASSES, H // 4, W // 4

    def run(model: Callable[[Tensor], Tensor], place: Tensor) -> None:
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            place.copy_(model(images))

    def in_turn(models: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        found = torch.empty(len(models), *shape, device=images.device)
        for model, place in zip(models, found, strict=True):
            run(model, place)
        return found

    streams = [torch.cuda.Stream() for _ in members] if images.is_cuda else []

    def on_streams() -> Tensor:
        found = torch.empty(MEMBERS, *shape, device=images.device)
        current = torch.cuda.current_stream()
        for model, place, stream in zip(members, found, streams, strict=True):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                run(model, place)
        for stream in streams:
            current.wait_stream(stream)
        return found

    batched = batched_members(members, dtype)

    def at_once() -> Tensor:
        return batched(images.to(dtype)).float()

    def as_products() -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return at_once()

    calls: dict[str, Call] = {
        ONE: partial(in_turn, members[:1]),
        IN_TURN: partial(in_turn, members),
        "compiled": partial(in_turn, [compiled(model) for model in members]),
        "one batched forward pass": at_once,
        "one batched forward pass, attention as products": as_products,
    }
    if images.is_cuda:
        graphs = [compiled(model, mode="reduce-overhead") for model in members]
        calls |= {
            "a stream each": on_streams,
            "one CUDA graph": partial(in_turn, members),
            "one CUDA graph, a branch each": on_streams,
            "compiled, a CUDA graph each": partial(in_turn, graphs),
        }
    return calls


def batched_members(members: Members, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """(B, 3, H, W) -> (members, B, K, h, w)"""
    permuted = [deepcopy(member).to(dtype) for member in members]
    for member in permuted:
        member.__class__ = Permuted
    parameters, buffers = stack_module_state(permuted)
    shape_only = permuted[0].to("meta")

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        return functional_call(shape_only, (parameters, buffers), (images,))

    return partial(vmap(one, in_dims=(0, 0, None)), parameters, buffers)


def measure(calls: dict[str, Call], batch: int, rounds: int) -> list[dict[str, Any]]:
    """Rows of {way, seconds, images_per_s, times_one_member, difference}, or {way, failed}."""
    expected = calls[IN_TURN]()
    differences, runnable, rows = {}, {}, []
    for name, call in calls.items():
        try:
            ready = recorded(call) if name.startswith("one CUDA graph") else call
            found = ready()
            differences[name] = float((found - expected[: len(found)]).abs().max() / expected.abs().max())
        except Exception as error:  # of a rule that vmap lacks, of a compiler, of a capture
            why = " ".join(str(error).split()) or type(error).__name__
            rows.append({"way": name, "failed": why[:200].replace("|", "/")})
        else:
            runnable[name] = ready
    seconds = interleaved(runnable, rounds, lambda done, total: None)
    return rows + [
        {"way": name, "seconds": times, "images_per_s": batch / median(times)}
        | {"times_one_member": ratio(times, seconds[ONE]), "difference": differences[name]}
        for name, times in seconds.items()
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    heading = "| model | batch | precision | three members | ms | times one member | difference |"
    lines = [heading, "|---|---:|---|---|---:|---:|---:|"]
    for row in rows:
        about = f"| {row['variant'].upper()} | {row['batch']} | {row['precision']} | {row['way']} |"
        if "failed" in row:
            lines.append(f"{about} failed: {row['failed']} | | |")
        else:
            ms = f"{1000 * median(row['seconds']):.2f}"
            lines.append(f"{about} {ms} | {row['times_one_member']:.2f} | {row['difference']:.1e} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
