"""trident export voc | onnx | torch | weights: a trained model, or its results, for others."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.command import add_overrides, new_console, new_parser, run_command, run_subcommand
from engine.exporting import ExportError, require_libraries
from engine.run_folder import require_new_file
from engine.wording import quantity

if TYPE_CHECKING:
    from engine.scoring.segmenter import Segmenter

ONNX_LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
LISTING = """
  voc        label maps of a split as one archive for the PASCAL VOC evaluation server
  onnx       the model as an ONNX file, for onnxruntime and others
  openvino   the model for OpenVINO
  tensorrt   the model as an ONNX file with an engine for the GPU of this machine
  int8       the model as an ONNX file with 8-bit weights and activations, and what that costs
  torch      the model as a torch.export program, which needs torch alone
  weights    the weights in the layout of Hugging Face or MMSegmentation
"""
ABOUT_GRAPHS = """
It takes images (batch, 3, height, width), uint8, RGB, or the bands of data.bands, and gives labels (batch,
height, width) and probabilities (batch, classes, height, width) of the same size. A side has 64 px or more,
or 64 px divided by the smallest scale. Where classes may overlap, labels are (batch, classes, height, width).
Normalisation, all members of an ensemble, and eval.scales, eval.flip and eval.multiple of the recipe are
inside; eval.protocol has to be native, eval.average probability. What was written is run on images of several
sizes and compared with torch before it gets its name.
"""
ABOUT_INT8 = """
examples:
  trident export int8 checkpoints/b2_adv --out b2_int8.onnx data.root=/data/VOC2012

Static quantisation by onnxruntime. The ranges of the activations are measured on images of the recipe's
training split, at their own size. The mIoU that it costs is measured on val: both files, of 32 and of 8 bits,
predict it. It is printed, and written to FILE.json with the scores of each class.
"""
ABOUT_VOC = """
examples:
  trident export voc checkpoints/b2_adv --out results.tar.gz
  trident export voc checkpoints/b2_adv --out val.tar.gz --split val data.root=/data/VOC2012

The images are those of ImageSets/Segmentation/<split>.txt; no masks are needed. Upload the archive at
http://host.robots.ox.ac.uk:8080 as a result of competition 6.
"""
LAYOUTS = ("huggingface", "mmsegmentation")
ABOUT_WEIGHTS = """
examples:
  trident export weights checkpoints/b2_adv --layout huggingface --out exported/b2_adv
  trident export weights checkpoints/b2_mmseg --layout mmsegmentation --out exported/b2 --step 38000

huggingface     model.safetensors and config.json, for SegformerForSemanticSegmentation.from_pretrained
mmsegmentation  a .pth of tensors, for load_from (model.pth) or the backbone's init_cfg (backbone.pth)

The head model.head=paper is that of Hugging Face, model.head=mmseg that of MMSegmentation; a run with the
other one gives its encoder alone.
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the input is wrong."""
    about = "Write a trained model, or its results, for others."
    return run_subcommand("export", about, LISTING, SUBCOMMANDS, argv)


def voc(argv: list[str]) -> int:
    """Results for the VOC server."""
    parser = _parser("voc", "Predict a split of PASCAL VOC for its evaluation server.", ABOUT_VOC)
    parser.add_argument("--split", default="test", help="a list in ImageSets/Segmentation (default test)")

    def body(arguments: argparse.Namespace) -> int:
        out = _new_file(arguments)

        from engine.exporting.voc import export_voc
        from engine.reporting.console import counted
        from engine.scoring.segmenter import open_segmenter

        segmenter = open_segmenter(arguments.trained, None, arguments.overrides, arguments.step)
        _print_without_effect(arguments, segmenter)
        progress = counted(new_console(), "predicting")
        count = export_voc(segmenter, arguments.split, out, progress)
        maps = quantity(count, "label map")
        print(f"{segmenter.name}: {maps} of {arguments.split}, checked for number, sizes and ids")
        print(f"written: {out}")
        return 0

    return run_command(parser, body, argv)


def onnx(argv: list[str]) -> int:
    """An ONNX file."""
    parser = _parser("onnx", "Write a trained model as an ONNX file.", ABOUT_GRAPHS)
    parser.add_argument("--half", action="store_true", help="compute in float16: half of the size")
    parser.add_argument(
        "--opset", type=int, metavar="N", help="version of the operators (default: the newest)"
    )

    def body(arguments: argparse.Namespace) -> int:
        out = _new_file(arguments)
        require_libraries("export", *ONNX_LIBRARIES)

        from engine.exporting.onnx_graph import export_onnx, require_opset

        require_opset(arguments.opset)
        export = partial(export_onnx, opset=arguments.opset, half=arguments.half)
        return _export_graph(arguments, out, export, "onnxruntime")

    return run_command(parser, body, argv)


def openvino(argv: list[str]) -> int:
    """Two files of OpenVINO."""
    parser = _parser(
        "openvino", "Write a trained model for OpenVINO (.xml, and .bin next to it).", ABOUT_GRAPHS
    )
    parser.add_argument("--half", action="store_true", help="weights in float16: half of the size")

    def body(arguments: argparse.Namespace) -> int:
        out = _new_file(arguments, ".xml")
        require_libraries("openvino", "onnx", "onnxscript", "openvino")

        from engine.exporting.openvino_graph import export_openvino, weights_of

        require_new_file(weights_of(out))
        return _export_graph(arguments, out, partial(export_openvino, half=arguments.half), "OpenVINO")

    return run_command(parser, body, argv)


def tensorrt(argv: list[str]) -> int:
    """An ONNX file with an engine of TensorRT."""
    parser = _parser(
        "tensorrt", "Write a trained model with an engine of TensorRT, for this kind of GPU.", ABOUT_GRAPHS
    )
    parser.add_argument("--half", action="store_true", help="let TensorRT compute in float16")
    parser.add_argument(
        "--largest", type=int, default=1024, metavar="PX", help="longest side of an image (default 1024)"
    )

    def body(arguments: argparse.Namespace) -> int:
        out = _new_file(arguments)
        require_libraries("export", *ONNX_LIBRARIES)

        from engine.exporting.tensorrt_graph import export_tensorrt, require_tensorrt

        require_tensorrt()
        print("The export with TensorRT is not yet measured on a GPU; what it writes is compared with torch.")
        export = partial(export_tensorrt, half=arguments.half, largest_px=arguments.largest)
        return _export_graph(arguments, out, export, "TensorRT")

    return run_command(parser, body, argv)


def int8(argv: list[str]) -> int:
    """An ONNX file of 8 bits, and its cost."""
    parser = _parser("int8", "Write a trained model with 8-bit weights and activations.", ABOUT_INT8)
    parser.add_argument(
        "--images", type=int, default=64, metavar="N", help="of the training split, to calibrate (default 64)"
    )

    def body(arguments: argparse.Namespace) -> int:
        out = _new_file(arguments)
        require_libraries("export", *ONNX_LIBRARIES)
        if arguments.images < 1:
            raise ExportError(f"--images {arguments.images}: expected a number of images, at least 1.")

        from engine.exporting.int8 import cost_file, export_int8
        from engine.reporting.console import counted

        require_new_file(cost_file(out))
        segmenter = _of_all_members(arguments)
        console = new_console()
        show = partial(counted, console)
        difference, cost = export_int8(segmenter, out, arguments.images, show)
        print(f"largest difference between the graph in float32 and torch: {difference:.1e}")
        print(*cost.lines(), f"written: {out}, {cost_file(out)}", sep="\n")
        return 0

    return run_command(parser, body, argv)


def torch(argv: list[str]) -> int:
    """A torch.export program."""
    parser = _parser("torch", "Write a trained model as a torch.export program (.pt2).", ABOUT_GRAPHS)

    def body(arguments: argparse.Namespace) -> int:
        out = _new_file(arguments)

        from engine.exporting.graph import export_program

        return _export_graph(arguments, out, export_program, "the program")

    return run_command(parser, body, argv)


def weights(argv: list[str]) -> int:
    """The weights alone."""
    parser = new_parser(
        "export weights", "Write the weights of a run in the layout of another library.", ABOUT_WEIGHTS
    )
    parser.add_argument("run", type=Path, help="the folder of a run, or a file of its top/")
    parser.add_argument(
        "--layout", choices=LAYOUTS, required=True, help="layout of the library that will read them"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="a folder that is new or empty"
    )
    parser.add_argument("--step", type=int, help="step of the kept checkpoint (default: the best one)")

    def body(arguments: argparse.Namespace) -> int:
        from engine.run_folder import RunFolderError, require_folder

        out: Path = arguments.out
        require_folder(out, "--out")
        if out.exists() and any(out.iterdir()):
            raise RunFolderError(f"--out {out} is not empty, and nothing is overwritten. Name a new folder.")

        from engine.exporting.weights import export_weights

        lines = export_weights(arguments.run, arguments.step, arguments.layout, out)
        print(*lines, sep="\n")
        return 0

    return run_command(parser, body, argv)


SUBCOMMANDS: dict[str, Callable[[list[str]], int]] = {
    "voc": voc,
    "onnx": onnx,
    "openvino": openvino,
    "tensorrt": tensorrt,
    "int8": int8,
    "torch": torch,
    "weights": weights,
}


def _parser(name: str, description: str, about: str) -> argparse.ArgumentParser:
    parser = new_parser(f"export {name}", description, about)
    parser.add_argument("trained", type=Path, help="a run, a file of its top/, or the folder of an ensemble")
    add_overrides(parser, "such as eval.scales=[1.0]")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file")
    parser.add_argument("--step", type=int, help="step of a run's kept checkpoint (default: the best one)")
    return parser


def _new_file(arguments: argparse.Namespace, ending: str = "") -> Path:
    out: Path = arguments.out
    require_new_file(out)
    if ending and out.suffix != ending:
        raise ExportError(f"--out {out}: the file ends with {ending}. Type --out {out.with_suffix(ending)}")
    return out


def _print_without_effect(
    arguments: argparse.Namespace, segmenter: "Segmenter", without_data: str = ""
) -> None:
    from engine.scoring.overrides import told_of_no_effect

    for line in told_of_no_effect(arguments.overrides, [segmenter.protocol.name], without_data):
        print(line)


def _of_all_members(arguments: argparse.Namespace, without_data: str = "") -> "Segmenter":
    """What is to be exported, on the CPU; a graph runs the same operations on every image."""
    from engine.scoring.segmenter import open_segmenter

    opened = open_segmenter(arguments.trained, "cpu", arguments.overrides, arguments.step)
    _print_without_effect(arguments, opened, without_data)
    if opened.trained.combination.early_exit:
        print(f"{opened.name}: without its early exit, as a graph runs all members on every image")
    return opened.of_all_members()


def _export_graph(
    arguments: argparse.Namespace, out: Path, export: Callable[["Segmenter", Path], float], runner: str
) -> int:
    segmenter = _of_all_members(arguments, "no images are read for a graph")
    with new_console().status(f"tracing {segmenter.name}, translating it, and running it to compare"):
        difference = export(segmenter, out)
    protocol = segmenter.protocol
    print(
        f"{segmenter.name}: {quantity(len(segmenter.trained.members), 'member')}, scales "
        f"{list(protocol.scales)}" + ", flipped too" * protocol.flip
    )
    print(f"largest difference between {runner} and torch: {difference:.1e} of a probability")
    print(f"written: {out}  {out.stat().st_size / 1e6:,.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
