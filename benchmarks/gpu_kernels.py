"""Two parts of an update of SegFormer-B2 at 512 px, in several ways: depthwise 3x3, and attention of stage 0.

    python -m benchmarks.gpu_kernels OUT depthwise
    python -m benchmarks.gpu_kernels OUT attention

OUT gets <part>.json and <part>.md. On a GPU each way is a CUDA graph, so the host takes no time, and the
cache is emptied before each call. GB/s is the least that has to be read and written over the time; the share
of the peak is the least time that an H200 needs for bytes or matrix products, over the time. `difference`
is the largest from float32, over the largest value, of the result and of all gradients. A way that does not
run has a row that says why.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import flex_attention

from benchmarks.graphs import recorded, timed
from engine.benchmarks.measuring import environment

PEAK_BYTES, PEAK_FLOPS = 4.8e12, 989e12  # each second; bf16; an H200 (SXM) by NVIDIA's data sheet
STAGES = ((256, 128, 3), (512, 64, 4), (1280, 32, 6), (2048, 16, 3))  # hidden channels, px, blocks
HEAD_DIM, QUERIES, KEYS = 64, 128 * 128, 16 * 16  # of stage 0, which has one head
GROUPS = 16  # of queries: they are independent, and a backward pass works on one for each block of keys
DIRECTIONS = "forward", "forward + backward"
Row = dict[str, Any]


class Way(NamedTuple):
    """A function of the inputs, and the layout that it gets them in."""

    call: Callable[..., Tensor]
    layout: torch.memory_format = torch.channels_last


@dataclass
class Subject:
    """What is computed; `least` is (bytes, operations of matrix products) by direction."""

    shape: str
    inputs: list[Tensor]
    ways: dict[str, Way]
    exact: Callable[..., Tensor]
    least: dict[str, tuple[float, float]]
    blocks: int  # of B2 that compute this


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder")
    parser.add_argument("part", choices=("depthwise", "attention"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--shrink", type=int, default=1, help="sides and channels are divided by this")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True  # as in a training
    torch.backends.cudnn.allow_tf32 = False  # in what the results are compared with
    subjects = {"depthwise": depthwise, "attention": attention}[arguments.part]
    rows: list[Row] = []
    for subject in subjects(arguments.batch, arguments.shrink, device, arguments.backend):
        rows += measure(subject, arguments.rounds)
        found = {"environment": environment(torch.get_num_threads()), "rows": rows}
        (arguments.out / f"{arguments.part}.json").write_text(json.dumps(found, indent=1))
        (arguments.out / f"{arguments.part}.md").write_text(markdown(arguments.part, rows))
    print((arguments.out / f"{arguments.part}.md").read_text())
    return 0


def depthwise(batch: int, shrink: int, device: torch.device, backend: str) -> Iterator[Subject]:
    """(B, C, H, W) -> (B, C, H, W), of each stage."""
    for channels, side, blocks in STAGES:
        C, H = channels // shrink, side // shrink
        sizes = (batch, C, H, H), (C, 1, 3, 3), (C,)
        inputs = [torch.randn(size, device=device, dtype=torch.bfloat16) for size in sizes]
        num_bytes = 2.0 * batch * C * H * H
        least = {"forward": (2 * num_bytes, 0.0), "forward + backward": (5 * num_bytes, 0.0)}
        yield Subject(
            f"{C} channels, {H} px", inputs, ways_of_depthwise(device, backend), convolution, least, blocks
        )


def ways_of_depthwise(device: torch.device, backend: str) -> dict[str, Way]:
    compiled = fresh_compiler(backend)
    tuned = compiled if backend != "inductor" else partial(compiled, mode="max-autotune-no-cudagraphs")
    ways = {
        "torch, channels-first": Way(convolution, torch.contiguous_format),
        "torch, channels-last": Way(convolution),
        "torch without cuDNN, channels-first": Way(without_cudnn(convolution), torch.contiguous_format),
        "torch without cuDNN, channels-last": Way(without_cudnn(convolution)),
        "torch, compiled": Way(compiled(convolution)),
        "torch, compiled, max-autotune": Way(tuned(convolution)),
        "nine products, compiled": Way(compiled(nine_products)),
    }
    if device.type == "cuda":
        from benchmarks.triton_depthwise import TILES, TritonDepthwise

        for tile in TILES:
            name = f"Triton, tiles of {tile.rows} x {tile.columns} x {tile.channels}"
            ways[name] = Way(lambda *inputs, tile=tile: TritonDepthwise.apply(*inputs, tile))
    return ways


def fresh_compiler(backend: str) -> Callable[..., Callable[..., Tensor]]:
    """torch.compile for one subject: what is compiled for several sizes may be slower."""
    torch.compiler.reset()
    return partial(torch.compile, backend=backend, dynamic=False, fullgraph=True)


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x, weight, bias, padding=1, groups=len(weight))


def nine_products(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution as torch's compiler can put it, and what is around it, into one kernel."""
    H, W = x.shape[2:]
    padded, taps = F.pad(x, (1, 1, 1, 1)).float(), weight.float()
    total = bias.float()[:, None, None]
    for tap in range(9):
        i, j = divmod(tap, 3)
        total = total + padded[:, :, i : i + H, j : j + W] * taps[:, :, i, j, None]
    return total.to(x.dtype)


def without_cudnn(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The backward pass chooses cuDNN or not as the forward pass did."""

    def plain(*inputs: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=False):
            return call(*inputs)

    return plain


def attention(batch: int, shrink: int, device: torch.device, backend: str) -> Iterator[Subject]:
    """(B, 1, queries, 64), (B, 1, keys, 64) twice -> (B, 1, queries, 64)"""
    compiled = fresh_compiler(backend)
    ways = {}
    for kind in (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        name = kind.name.lower().removesuffix("_attention")
        ways[name] = by_backend(kind)
        ways[f"{name}, {GROUPS} groups"] = in_groups(by_backend(kind))
    # Without the pattern matcher, which would put flash attention in place of the products.
    options = {"options": {"pattern_matcher": False}} if backend == "inductor" else {}
    ways |= {
        "math": by_backend(SDPBackend.MATH),
        "two products, compiled": compiled(two_products, **options),
        "flex": compiled(flex_attention),
        f"flex, {GROUPS} groups": in_groups(compiled(flex_attention)),
    }
    N, M = QUERIES // shrink**2, KEYS // shrink**2
    sizes = (batch, 1, N, HEAD_DIM), (batch, 1, M, HEAD_DIM), (batch, 1, M, HEAD_DIM)
    inputs = [torch.randn(size, device=device, dtype=torch.bfloat16) for size in sizes]
    of_queries, of_keys = (2.0 * batch * length * HEAD_DIM for length in (N, M))
    product = (
        2.0 * batch * N * M * HEAD_DIM
    )  # two in the forward pass; five in the backward, which repeats one
    least = {
        "forward": (2 * of_queries + 2 * of_keys, 2 * product),
        "forward + backward": (6 * of_queries + 6 * of_keys, 7 * product),
    }
    with_layout = {name: Way(call, torch.contiguous_format) for name, call in ways.items()}
    yield Subject(f"{N} queries, {M} keys", inputs, with_layout, two_products, least, blocks=3)


def two_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) @ v


def by_backend(kind: SDPBackend) -> Callable[..., Tensor]:
    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(kind):
            return F.scaled_dot_product_attention(q, k, v)

    return call


def in_groups(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same attention with the queries as heads of their own, which see the same keys."""

    def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        B, _, N, D = q.shape
        heads = q.view(B, GROUPS, N // GROUPS, D)
        return call(heads, *(x.expand(B, GROUPS, -1, D) for x in (k, v))).reshape(B, 1, N, D)

    return grouped


def measure(subject: Subject, rounds: int) -> list[Row]:
    """Rows of {shape, blocks, way, direction, seconds, gb_per_s, share, difference}, in turn.

    A way that failed has one row of {shape, blocks, way, failed}.
    """
    x = subject.inputs[0]
    gradient = torch.randn_like(x)
    expected = results(subject.exact, [tensor.float() for tensor in subject.inputs], gradient.float())
    about = {"shape": subject.shape, "blocks": subject.blocks}
    calls, differences, rows = {}, {}, []
    for name, way in subject.ways.items():
        inputs = [in_layout(tensor, way.layout) for tensor in subject.inputs]
        own = in_layout(gradient, way.layout)
        try:
            differences[name] = difference(results(way.call, inputs, own), expected)
            found = {
                (name, direction): recorded(partial(call, way.call, inputs, own))
                for direction, call in zip(DIRECTIONS, (forward, results), strict=True)
            }
        except Exception as error:  # of a kernel that does not take these shapes, or of a compiler
            why = " ".join(str(error).split()) or type(error).__name__
            rows.append(about | {"way": name, "failed": why[:200].replace("|", "/")})
        else:
            calls |= found
    for (name, direction), times in timed(calls, rounds).items():
        num_bytes, operations = subject.least[direction]
        bound = max(num_bytes / PEAK_BYTES, operations / PEAK_FLOPS)
        rows.append(
            about
            | {"way": name, "direction": direction, "seconds": times, "difference": differences[name]}
            | {
                "gb_per_s": num_bytes / median(times) / 1e9,
                "share": bound / median(times) if x.is_cuda else None,
            }
        )
    return rows


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(
        float((ours.float() - theirs).abs().max() / theirs.abs().max())
        for ours, theirs in zip(found, expected, strict=True)
    )


def in_layout(tensor: Tensor, layout: torch.memory_format) -> Tensor:
    return tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor


@torch.no_grad()
def forward(call: Callable[..., Tensor], inputs: list[Tensor], gradient: Tensor) -> Tensor:
    return call(*inputs)


def results(call: Callable[..., Tensor], inputs: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """The result and the gradients of all inputs."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    out = call(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient)]


def markdown(part: str, rows: list[Row]) -> str:
    """One table; of several shapes also the sum over the blocks of B2."""
    lines = [
        f"| {part} | way | | ms | GB/s | share of the peak | difference |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    sums: dict[tuple[object, object], list[float]] = {}
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['shape']} | {row['way']} | failed: {row['failed']} | | | | |")
            continue
        seconds = median(row["seconds"])
        sums.setdefault((row["way"], row["direction"]), []).append(row["blocks"] * seconds)
        share = f"{row['share']:.0%}" if row["share"] else "-"
        lines.append(
            f"| {row['shape']} | {row['way']} | {row['direction']} | {1000 * seconds:.3f} "
            f"| {row['gb_per_s']:,.0f} | {share} | {row['difference']:.1e} |"
        )
    if part == "depthwise":
        for (way, direction), times in sums.items():
            if len(times) == len(STAGES):
                lines.append(f"| all blocks | {way} | {direction} | {1000 * sum(times):.3f} | | | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
