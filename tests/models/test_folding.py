"""A model for predictions gives the logits of the model, with its norms folded where that changes nothing."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from engine.scoring.evaluation import evaluate
from engine.scoring.options import Eval
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from models import build_model
from models.folding import for_predictions, with_folded_norms

IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def trained(model: nn.Module) -> nn.Module:
    """In eval mode, with statistics as after a training, so that a wrong fold changes the logits."""
    generator = torch.Generator().manual_seed(1)
    for norm in norms(model):
        norm.running_mean.normal_(0, 0.1, generator=generator)
        norm.running_var.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ("arch", "encoder", "left"),
    [
        ("segformer", "tu-tf_efficientnet_lite0", 1),  # of the folded decoder, whose sum is no layer
        ("unet", "resnet18", 0),
        ("deeplabv3plus", "resnet18", 0),
        ("fpn", "efficientnet-b0", 1),  # which the encoder does not call
        ("unetplusplus", "tu-densenet121", None),  # norms before convolutions
    ],
)
def test_logits_are_those_of_the_model(arch: str, encoder: str, left: int | None) -> None:
    torch.manual_seed(0)
    model = trained(build_model(arch, num_classes=4, encoder=encoder))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = 255 * torch.rand(2, 3, 128, 160)
    with torch.no_grad():
        expected, folded = model(images), for_predictions(model)
        found = folded(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert len(norms(folded)) == left or (left is None and len(norms(folded)) < len(norms(model)))
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)


class Branching(nn.Module):
    """Its convolution is read by a norm, and past it."""

    def __init__(self, is_read_twice: bool):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.is_read_twice = is_read_twice

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.norm(x) + x if self.is_read_twice else self.norm(x)


def test_a_norm_is_kept_where_something_else_reads_what_it_reads() -> None:
    assert not norms(with_folded_norms(trained(Branching(False)), IMAGE))
    model = trained(Branching(True))
    assert with_folded_norms(model, IMAGE) is model


def test_a_model_with_nan_or_without_such_norms_is_returned_itself() -> None:
    model = trained(Branching(False))
    model.norm.running_mean.fill_(torch.nan)
    assert with_folded_norms(model, IMAGE) is model
    plain = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    assert with_folded_norms(plain, IMAGE) is plain
    assert for_predictions(plain) is plain


def test_a_model_keeps_its_mode_and_is_scored_folded() -> None:
    model = build_model("segformer", num_classes=4, encoder="resnet18").train()
    called: list[nn.Module] = []
    folded = for_predictions(model)
    assert model.training and not folded.training
    folded.register_forward_pre_hook(lambda module, inputs: called.append(module))
    labels = torch.zeros(1, 40, 50, dtype=torch.uint8)
    batch = SimpleNamespace(images=torch.full((1, 3, 40, 50), 7, dtype=torch.uint8), labels=labels, ids=["a"])
    predictor = Predictor(EvaluationProtocol.of(Eval(every=1)), nullcontext)
    scored = {"a": folded}
    evaluate(scored, [batch] * 3, predictor, 4, 255, torch.device("cpu"))
    assert called == [folded] * 3 and not folded.training


def test_hooks_of_the_model_are_called_by_its_copy_and_other_tensors_are_shared() -> None:
    model = trained(build_model("unet", num_classes=4, encoder="resnet18"))
    folded = for_predictions(model)
    assert folded is not model
    seen: list[Tensor] = []
    handle = model.encoder.register_forward_hook(lambda module, inputs, maps: seen.append(maps[-1]))
    with torch.no_grad():
        folded(torch.zeros(1, 3, 64, 64))
    handle.remove()
    assert len(seen) == 1 and not folded.encoder._forward_hooks
    head = "segmentation_head.0.weight"
    of_copy, of_model = dict(folded.named_parameters()), dict(model.named_parameters())
    name = next(name for name in of_model if name.endswith(head))
    assert of_copy[name] is of_model[name]


def test_a_layer_whose_output_is_looked_at_is_not_folded() -> None:
    model = trained(Branching(False))
    model.norm.register_forward_hook(lambda module, inputs, output: None)
    assert with_folded_norms(model, IMAGE) is model
