"""The events in a run's folder, read back: graph, notes, and scores with main recipe values."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn

from engine.recipe import load_recipe
from engine.reporting.advisor import Note
from engine.reporting.callbacks import Evaluation, RunContext, RunEnd
from engine.reporting.tensorboard import TensorBoard, write_hparams
from engine.scoring.baselines import Baselines
from engine.scoring.confusion import Scores
from models.segformer import SegFormer

BASELINES = Baselines("ground", "ground", first=0.1, majority=0.1, uniform=0.05)

END = RunEnd("stopped", 50)
ROOT = Path(__file__).parents[3]


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


def evaluated(folder: Path, model: nn.Module) -> tuple[TensorBoard, str]:
    """After the first two evaluations of a run, with what it printed."""
    console = Console(file=io.StringIO(), width=200)
    board = TensorBoard()
    board.on_start(
        RunContext(folder, None, model, ("ground", "cat"), ((0, 0, 0), (9, 9, 9)), 255, console=console)
    )
    for step in (10, 20):
        board.on_evaluation(step, Evaluation(Scores({"mIoU": 0.5}, BASELINES, {}, {}, {}, {}, [], 1, 0), 1.0))
    return board, console.file.getvalue()


def test_writing_the_graph_does_not_change_the_model(tmp_path: Path) -> None:
    model = SegFormer("b0", 2, decoder_width=16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    board, printed = evaluated(tmp_path, model)
    board.on_end(END)
    assert printed == ""
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    nodes = {node.name for node in read(tmp_path).Graph().node}
    for part in ("encoder", "head"):
        assert any(f"[{part}]" in name or f"/{part}/" in name for name in nodes)


def test_a_model_that_cannot_be_traced_gives_a_reason_and_is_unchanged(tmp_path: Path) -> None:
    class Untraceable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 1)

        def forward(self, image):
            raise KeyError("no such thing\nin two lines")

    model = Untraceable()
    board, printed = evaluated(tmp_path, model)
    board.on_end(END)
    assert "KeyError" in printed and len(printed.splitlines()) == 1
    assert model.training


def test_a_note_is_text_with_its_recipe_lines(tmp_path: Path) -> None:
    board, _ = evaluated(tmp_path, nn.Conv2d(3, 2, 1))
    board.on_note(50, Note("no gradient", "Nothing reaches it.", ("optimizer.lr=1e-4", "log.gradients=50")))
    board.on_end(END)
    [event] = read(tmp_path).Tensors("notes/no_gradient/text_summary")
    assert event.step == 50
    assert event.tensor_proto.string_val[0].decode().split("\n") == [
        "Nothing reaches it.", "", "    optimizer.lr=1e-4", "    log.gradients=50",
    ]  # fmt: skip


def test_hparams_are_in_the_folder_of_the_run_with_its_final_scores(tmp_path: Path) -> None:
    recipe = load_recipe(ROOT / "recipes/demo.yaml", ["train.steps=70", "schedule.warmup=3"]).in_steps(10)
    scores = {name: Scores({"mIoU": mIoU}, BASELINES, {}, {}, {}, {}, [], 1, 0) for name, mIoU in
              {"step 70": 0.5, "step 60": 0.25, "mean": 0.625}.items()}  # fmt: skip
    write_hparams(tmp_path, recipe, scores)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    events = read(tmp_path)
    [best], [ensemble] = events.Scalars("hparam/best_mIoU"), events.Scalars("hparam/ensemble_mIoU")
    assert (best.step, best.value, ensemble.value) == (70, 0.5, 0.625)
    metadata = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    knobs = HParamsPluginData.FromString(metadata).session_start_info.hparams
    assert knobs["optimizer.lr"].number_value == pytest.approx(2e-3)
    assert knobs["train.batch"].number_value == 8
    assert knobs["model.variant"].string_value == "b0"
    assert knobs["loss"].string_value == "cross_entropy + dice"
    assert "adversarial.weight" not in knobs
