"""Several batches scored at once: the same results, in the same order, whatever a model keeps."""

import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from engine.scoring.evaluation import evaluate
from engine.scoring.precision_recall import PrecisionRecall
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.threads import LARGE_PX, batches_at_once, in_threads

CPU, VOID = torch.device("cpu"), 255
PREDICTOR = Predictor(EvaluationProtocol(), nullcontext)


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Forgetful(nn.Module):
    """Keeps its input, and is interrupted before it reads it again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.seen = images
        time.sleep(0.005)
        return self.conv(self.seen / 255)


class Uncopied(Forgetful):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()  # cannot be copied


def batches(num: int = 12, side: int = 16) -> list[SimpleNamespace]:
    generator = torch.Generator().manual_seed(0)
    return [
        SimpleNamespace(
            images=torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8, generator=generator),
            labels=torch.randint(0, 4, (1, side, side), dtype=torch.uint8, generator=generator),
            ids=[str(number)],
        )
        for number in range(num)
    ]


def scores(model: nn.Module) -> tuple[list[str], list[Tensor]]:
    """The ids in the order of the calls, and all that is counted."""
    curves, ids = PrecisionRecall("model", 4, VOID, CPU), []
    [tally] = evaluate(
        {"model": model},
        batches(),
        PREDICTOR,
        4,
        VOID,
        CPU,
        lambda of_batch, counts: ids.extend(of_batch),
        detailed=True,
        pixel_counter=curves,
    ).values()
    return ids, [*tally.tensors(), *curves.totals]


@pytest.mark.parametrize("kind", [Forgetful, Uncopied])
def test_scores_are_those_of_one_batch_after_another(kind: type[Forgetful]) -> None:
    torch.manual_seed(0)
    model = kind()
    ids, found = scores(model)
    assert ids == [str(number) for number in range(12)]
    assert torch.get_num_threads() == 4
    torch.set_num_threads(1)
    _, expected = scores(model)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def threads_of(
    model: nn.Module, some: list[SimpleNamespace], predictor: Predictor = PREDICTOR
) -> list[tuple[int, int]]:
    """Of each batch: the thread that scored it, and how many threads its operators had."""

    @torch.no_grad()
    def score(models: dict[str, nn.Module], batch: SimpleNamespace) -> tuple[int, int]:
        models["x"](batch.images)
        return threading.get_ident(), torch.get_num_threads()

    return list(in_threads(score, {"x": model}, some, predictor, CPU))


def test_batches_are_scored_at_once_and_large_ones_alone() -> None:
    here, side = threading.get_ident(), int(LARGE_PX**0.5)
    found = threads_of(Forgetful(), batches())
    assert {threads for _, threads in found} == {1} and here not in {thread for thread, _ in found}
    assert len({thread for thread, _ in found}) > 1
    some = [*batches(3), *batches(1, side + 1), *batches(1, side)]
    found = threads_of(Forgetful(), some)
    assert [thread == here for thread, _ in found] == [False, False, False, True, False]
    assert found[3] == (here, 4)
    enlarged = Predictor(EvaluationProtocol(scales=(1.0, 2.0)), nullcontext)
    found = threads_of(Forgetful(), [*batches(2), *batches(1, side // 2 + 1)], enlarged)
    assert [thread == here for thread, _ in found] == [False, False, True]


def test_the_threads_are_divided_among_the_batches() -> None:
    """Two batches for four threads; at most eight batches; one batch alone has all threads."""
    assert {threads for _, threads in threads_of(Forgetful(), batches(2))} == {2}
    assert threads_of(Forgetful(), batches(1)) == [(threading.get_ident(), 4)]
    found = {}
    for num in (1, 3, 8, 12, 16, 20):
        torch.set_num_threads(num)
        found[num] = batches_at_once(CPU)
    assert found == {1: 1, 3: 3, 8: 8, 12: 6, 16: 8, 20: 6}
    assert batches_at_once(torch.device("cuda")) == 1


def test_models_with_hooks_and_such_that_cannot_be_copied_see_one_batch_after_another() -> None:
    watched, seen = Forgetful(), []
    watched.conv.register_forward_hook(lambda *_: seen.append(threading.get_ident()))
    for model in (watched, Uncopied()):
        assert threads_of(model, batches(3)) == [(threading.get_ident(), 4)] * 3
    assert seen == [threading.get_ident()] * 3


def of_id(models: dict[str, nn.Module], batch: SimpleNamespace) -> str:
    if batch.ids == ["5"]:
        raise ValueError("batch 5")
    return batch.ids[0]


def is_as_before() -> bool:
    running = [thread for thread in threading.enumerate() if thread.name.startswith("scoring")]
    return not running and torch.get_num_threads() == 4


def test_an_error_of_a_batch_reaches_the_caller() -> None:
    found = []
    with pytest.raises(ValueError, match="batch 5"):
        for id in in_threads(of_id, {"x": Forgetful()}, batches(), PREDICTOR, CPU):
            found.append(id)
    assert found == ["0", "1", "2", "3", "4"] and is_as_before()


def test_an_error_of_the_data_reaches_the_caller() -> None:
    def damaged() -> Iterator[SimpleNamespace]:
        yield from batches(5)
        raise OSError("damaged")

    with pytest.raises(OSError, match="damaged"):
        list(in_threads(of_id, {"x": Forgetful()}, damaged(), PREDICTOR, CPU))
    assert is_as_before()


def test_only_some_batches_are_read_ahead_and_a_caller_may_stop() -> None:
    read = []

    def counted() -> Iterator[SimpleNamespace]:
        for batch in batches(100):
            read.append(batch.ids)
            yield batch

    results = in_threads(of_id, {"x": Forgetful()}, counted(), PREDICTOR, CPU)
    assert [next(results), next(results)] == ["0", "1"]
    assert len(read) <= 8
    results.close()
    assert is_as_before()
