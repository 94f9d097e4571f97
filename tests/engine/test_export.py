"""`trident export` on tiny runs: the files have the content of the run, and load again."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import engine
from engine.export import SUBCOMMANDS, main
from engine.run import main as run_main
from engine.run_folder import RunFolder
from models.origin import OWN, origin_of
from models.segformer import SegFormer
from models.weights import load_weights
from tests.engine.tiny_run import tiny

SMALLER = ["train.steps=2", "eval.every=1", "log.images=0", "model.decoder_width=32"]
ZOO = ["model.decoder_width=null", "model.arch=unet", "model.encoder=resnet18"]
HEAD_OF = {"huggingface": "paper", "mmsegmentation": "mmseg"}
FILE_OF = {"huggingface": "model.safetensors", "mmsegmentation": "model.pth"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with each head, and one of the zoo."""
    folder = tmp_path_factory.mktemp("runs")
    for name, more in {"paper": [], "mmseg": ["model.head=mmseg"], "unet": ZOO}.items():
        assert run_main(tiny(folder, name, *SMALLER, *more)) == 0
    return folder


def member(run: Path, index: int = 0) -> dict[str, torch.Tensor]:
    return load_file(run / RunFolder(run).read_manifest().members[index].file)


def export(run: Path, layout: str, out: Path, *more: str) -> int:
    return main(["weights", str(run), "--layout", layout, "--out", str(out), *more])


@pytest.mark.parametrize("layout", HEAD_OF)
def test_exported_weights_load_bitwise(layout: str, trained: Path, tmp_path: Path) -> None:
    run, out = trained / HEAD_OF[layout], tmp_path / "deep/out"
    assert export(run, layout, out) == 0
    state = member(run)
    names = RunFolder(run).read_manifest().class_names
    model = SegFormer("b0", num_classes=len(names), decoder_width=32, head=HEAD_OF[layout])
    report = load_weights(model, str(out / FILE_OF[layout]), class_names=names)
    assert report.layout == layout
    assert report.parts["encoder"].share == report.parts["head"].share == 1
    loaded = model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_the_best_checkpoint_or_that_of_a_step(trained: Path, tmp_path: Path) -> None:
    run = RunFolder(trained / "paper")
    best, other = run.read_manifest().members
    key = "decode_head.linear_fuse.weight"
    for out, arguments, index in [("best", [], 0), ("step", ["--step", str(other.step)], 1)]:
        assert export(run.path, "huggingface", tmp_path / out, *arguments) == 0
        written = load_file(tmp_path / out / "model.safetensors")[key]
        assert torch.equal(written, member(run.path, index)["head.fuse.weight"])
    assert best.step != other.step


def test_the_config_describes_the_network(trained: Path, tmp_path: Path) -> None:
    assert export(trained / "paper", "huggingface", tmp_path / "out") == 0
    config = json.loads((tmp_path / "out/config.json").read_text())
    names = RunFolder(trained / "paper").read_manifest().class_names
    assert config["architectures"] == ["SegformerForSemanticSegmentation"]
    assert config["model_type"] == "segformer"
    assert (config["depths"], config["hidden_sizes"]) == ([2, 2, 2, 2], [32, 64, 160, 256])
    assert (config["patch_sizes"], config["strides"]) == ([7, 3, 3, 3], [4, 2, 2, 2])
    assert config["decoder_hidden_size"] == 32
    assert [config["id2label"][str(i)] for i in range(len(names))] == names
    assert config["label2id"][names[1]] == 1
    origin = origin_of(str(tmp_path / "out"), tmp_path / "out/model.safetensors")
    assert (list(origin.class_names), origin.licence) == (names, OWN)


@pytest.mark.parametrize(
    ("head", "layout", "file"),
    [("paper", "mmsegmentation", "backbone.pth"), ("mmseg", "huggingface", "model.safetensors")],
)
def test_a_head_that_the_other_library_lacks_is_left_out_and_reported(
    head: str, layout: str, file: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(trained / head, layout, tmp_path / "out") == 0
    assert f"The encoder alone: {layout} has no head like this one" in capsys.readouterr().out
    model = SegFormer("b0", num_classes=6)
    report = load_weights(model, str(tmp_path / "out" / file))
    assert report.parts["encoder"].share == 1
    assert report.parts["head"].matched == report.parts["other"].unexpected == []
    state = member(trained / head)
    assert all(torch.equal(value, state[f"encoder.{k}"]) for k, value in model.encoder.state_dict().items())
    if layout == "huggingface":
        config = json.loads((tmp_path / "out/config.json").read_text())
        assert config["architectures"] == ["SegformerModel"] and "id2label" not in config


def test_the_licence_of_the_initial_weights_is_exported(trained: Path, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(trained / "paper", tmp_path / "run")))
    weights = {"source": "hf:nvidia/mit-b0", "licence": "for research: only"}
    run.write_manifest(run.read_manifest().model_copy(update={"weights": weights}))
    assert export(run.path, "huggingface", tmp_path / "out") == 0
    file = tmp_path / "out/model.safetensors"
    assert origin_of(str(tmp_path / "out"), file).licence == "for research: only"
    assert "hf:nvidia/mit-b0" in (tmp_path / "out/README.md").read_text()


def test_a_pth_is_read_without_unpickling(trained: Path, tmp_path: Path) -> None:
    assert export(trained / "mmseg", "mmsegmentation", tmp_path / "out") == 0
    content = torch.load(tmp_path / "out/model.pth", weights_only=True)
    assert content.keys() == {"state_dict"}
    assert content["state_dict"]["backbone.layers.0.1.0.attn.attn.in_proj_weight"].shape == (96, 32)
    assert content["state_dict"]["decode_head.conv_seg.weight"].shape == (6, 32, 1, 1)


@pytest.mark.parametrize(
    ("run", "more", "message"),
    [
        ("paper", ["--step", "7"], "Steps kept: "),
        ("unet", [], "is not a SegFormer"),
        ("nowhere", [], "does not exist"),
        ("paper", ["--out", "{trained}/paper/recipe.yaml/out"], "recipe.yaml is a file, not a folder"),
    ],
)
def test_wrong_input_is_exit_2_and_writes_nothing(
    run: str, more: list[str], message: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [text.format(trained=trained) for text in more]
    assert export(trained / run, "huggingface", tmp_path / "out", *texts) == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    assert export(trained / "paper", "huggingface", tmp_path / "out") == 0  # an empty folder is accepted
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert export(trained / "paper", "mmsegmentation", tmp_path / "out") == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("what", ["voc", "onnx", "openvino", "int8", "torch"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{trained}/nowhere"], "does not exist"),
        (["{trained}/paper", "--step", "7"], "Steps kept: "),
        (["{trained}/paper", "model.variant=b1"], "cannot be changed"),
        (["{trained}/paper", "--out", "{trained}/paper/manifest.json"], "nothing is overwritten"),
        (["{trained}/paper", "--out", "{trained}/paper/manifest.json/out"], "is a file, not a folder"),
        (["{trained}/paper", "eval.flip=perhaps"], "expected true or false"),
        (["{trained}/paper", "eval.protocol=centercrop"], "leaves a part of each image out"),
    ],
)
def test_wrong_input_of_the_other_exports_is_exit_2(
    what: str,
    arguments: list[str],
    message: str,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("openvino" if what == "openvino" else "onnx")
    texts = [text.format(trained=trained) for text in arguments]
    assert main([what, "--out", str(tmp_path / "out/file.xml"), *texts]) == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_program_of_a_zoo_network_from_the_command_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "unet.pt2"
    assert main(["torch", str(trained / "unet"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "largest difference" in printed and f"written: {out}" in printed
    image = torch.randint(0, 256, (1, 3, 70, 129), dtype=torch.uint8)
    labels, probabilities = torch.export.load(out).module()(image)
    expected = engine.load(trained / "unet", "cpu").predict(image[0])
    torch.testing.assert_close(probabilities[0], expected.probabilities)
    assert torch.equal(labels[0], expected.labels)


def test_results_for_voc_need_its_classes(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["voc", str(trained / "paper"), "--out", str(tmp_path / "results.tar.gz")]) == 2
    assert "the 21 classes of VOC" in capsys.readouterr().err


def test_the_kinds_of_export_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {what} " in printed for what in SUBCOMMANDS)
    assert main(["model"]) == 2
    assert ", ".join(SUBCOMMANDS) in capsys.readouterr().err.replace("'", "")
