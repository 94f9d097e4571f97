"""Two processes against one with the same global batch: all run once, and the results are compared."""

import json
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.training import distributed
from engine.training.distributed import GlobalBatchNorm, Process, distribute, start_process
from tests.processes import Python

SCRIPT = Path(__file__).with_name("one_process.py")
Found = tuple[dict[str, Tensor], dict]


def started(folder: Path, rank: int, world_size: int, port: int) -> Python:
    """With the environment that torchrun sets."""
    announced = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank}
    environment = {key: str(value) for key, value in (announced | {"WORLD_SIZE": world_size}).items()}
    return Python(SCRIPT, folder, environment=environment | {"CUDA_VISIBLE_DEVICES": ""})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    """What "0_of_1", "0_of_2" and "1_of_2" found: their tensors and their report."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [started(folder, *who, port) for who in ((0, 1), (0, 2), (1, 2))]
    try:
        ended = [process.end() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in ended] == [0, 0, 0], ended
    return {
        path.stem: (load_file(path), json.loads(path.with_suffix(".json").read_text()))
        for path in folder.glob("*.safetensors")
    }


def pairs(found: dict[str, Found], prefix: str, rank: int) -> list[tuple[str, Tensor, Tensor]]:
    """(name, tensor of this process among two, tensor of the single process) for the names with a prefix."""
    alone, mine = found["0_of_1"][0], found[f"{rank}_of_2"][0]
    assert mine.keys() == alone.keys()
    chosen = [(key, mine[key], alone[key]) for key in alone if key.startswith(prefix)]
    assert chosen
    return chosen


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("name", "rtol", "atol"),
    [
        ("supervised", 1e-9, 1e-12),  # float64 throughout
        ("adversarial", 1e-4, 1e-8),  # the probabilities that the discriminator gets are float32
        ("dropout", 1e-9, 1e-12),
        ("penalty", 1e-4, 1e-8),
        ("accumulated", 1e-4, 1e-8),
        ("frozen", 1e-4, 1e-8),
        ("unlabelled", 1e-9, 1e-12),
    ],
)
def test_losses_gradients_and_statistics_equal_those_of_one_process(found, name, rtol, atol, rank) -> None:
    compared = pairs(found, f"{name}/", rank)
    kinds = {key.split("/")[1] for key, _, _ in compared}
    assert {"model", "buffer", "loss", "loss_dice"} <= kinds
    assert ("discriminator" in kinds) == (name not in ("supervised", "dropout", "unlabelled"))
    for key, mine, alone in compared:
        torch.testing.assert_close(
            mine, alone, rtol=rtol, atol=atol, msg=lambda text, key=key: f"{key}: {text}"
        )
    norms = [key for key, _, _ in compared if key.endswith("running_var")]
    assert norms


def test_weights_are_those_of_one_process_also_from_a_state_of_another_number_of_them(found) -> None:
    """In float64, dropout included: nothing but the order of sums depends on the number of processes."""
    expected = {k.partition("/")[2]: v for k, v in found["0_of_1"][0].items() if k.startswith("saved/")}
    assert len(expected) > 100
    for who in found:
        for name in ("saved", "moved"):
            for key, value in expected.items():
                torch.testing.assert_close(found[who][0][f"{name}/{key}"], value, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("who", ["0_of_1", "0_of_2", "1_of_2"])
def test_frozen_parameters_get_no_gradient_and_frozen_norms_keep_their_statistics(found, who: str) -> None:
    tensors = found[who][0]
    names = {key.removeprefix("frozen/model/") for key in tensors if key.startswith("frozen/model/")}
    assert names and not any(name.startswith(("encoder.stages.2.", "head.norm.")) for name in names)
    assert any(name.startswith("encoder.stages.3.") for name in names)
    assert tensors["frozen/buffer/head.norm.num_batches_tracked"] == 0
    assert tensors["supervised/buffer/head.norm.num_batches_tracked"] == 1


def test_the_compared_gradients_are_not_zero(found) -> None:
    """Except for biases in front of a norm, which have no effect."""
    gradients = [alone for key, _, alone in pairs(found, "adversarial/model/", 0) if key.endswith("weight")]
    assert all(gradient.abs().max() > 1e-9 for gradient in gradients)


def test_the_compared_update_learns_from_unlabelled_images(found) -> None:
    alone = found["0_of_1"][0]
    assert alone["unlabelled/unlabelled/loss"] > 0 and alone["unlabelled/unlabelled/kept"] == 100


@pytest.mark.parametrize("kind", ["BatchNorm2d", "BatchNormAct2d"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 2e-4), ("bfloat16", 0.02)])
def test_batch_norm_uses_the_whole_batch(found, kind: str, dtype: str, tolerance: float) -> None:
    alone = found["0_of_1"][0]
    for rank in (0, 1):
        for key, mine, theirs in pairs(found, f"{kind}.{dtype}/", rank):
            part = key.split("/")[1]
            if part in ("output", "input_grad", "at_rest"):
                theirs = theirs[rank::2]  # of each sample
            scale = max(1.0, theirs.abs().max().item())
            assert (mine - theirs).abs().max() <= tolerance * scale, key
    assert alone[f"{kind}.{dtype}/num_batches_tracked"] == 1
    assert (alone[f"{kind}.float64/output"].min() >= 0) == (kind == "BatchNormAct2d")


def test_the_samples_of_the_processes_are_those_of_one_process(found) -> None:
    alone, first, second = (found[who][1]["ids"] for who in ("0_of_1", "0_of_2", "1_of_2"))
    for update in (0, 1):
        assert first[update] == alone[update][0::2]
        assert second[update] == alone[update][1::2]


def test_each_image_is_scored_once_and_all_processes_get_the_scores(found) -> None:
    alone, first, second = (found[who][1]["validation"] for who in ("0_of_1", "0_of_2", "1_of_2"))
    assert first["read"] and second["read"]
    assert sorted(first["read"] + second["read"]) == sorted(alone["read"])
    assert len(set(alone["read"])) == 7
    assert json.dumps(first["scores"]) == json.dumps(second["scores"]) == json.dumps(alone["scores"])
    assert alone["scores"]["num_pixels"] > 7 * 40 * 48 / 2


def test_an_update_with_nan_in_one_process_is_left_out_by_all(found) -> None:
    for who in ("0_of_1", "0_of_2", "1_of_2"):
        assert found[who][1]["left out"] == {"pixel": [True, True], "loss": [True, True]}


def test_a_signal_to_one_process_stops_all_at_the_same_update(found) -> None:
    for who in ("0_of_2", "1_of_2"):
        report = found[who][1]["agreement"]
        assert report["stops"] == [False, False, True]  # they synchronise at even updates only
        assert (report["any"], report["none"]) == (True, False)
    assert found["0_of_1"][1]["agreement"]["stops"] == [False, True, True]


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    process = start_process()
    assert process.is_alone and process.is_main


def test_in_one_process_the_model_is_not_wrapped() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3))
    assert distribute(model, Process(0, 1, torch.device("cpu"))) is model


@pytest.mark.parametrize("syncs", [True, False])
def test_norms_may_be_left_to_each_process(syncs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "DistributedDataParallel", lambda model, device_ids: model)
    model = distribute(nn.Sequential(nn.BatchNorm2d(3)), Process(0, 2, torch.device("cpu")), syncs)
    assert type(model[0]) is (GlobalBatchNorm if syncs else nn.BatchNorm2d)


def test_processes_share_the_scan_of_the_labels_and_get_the_sum(found):
    whole, again, _ = found["0_of_1"][1]["label counts"]
    assert whole == again and len(whole[1]) == 7
    assert found["0_of_2"][1]["label counts"] == [whole, whole, 1]
    assert found["1_of_2"][1]["label counts"] == [whole, whole, 0]
