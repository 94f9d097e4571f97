"""The auxiliary head (`model.auxiliary`): logits from a layer of the encoder, for the training only."""

from difflib import get_close_matches

import torch
from torch import Tensor, nn

from engine.recipe import RecipeError
from engine.recipe.sections import Auxiliary
from engine.training.features import TRIAL_PX, outputs_of
from models.folding import evaluating

MULTIPLE_PX = 32  # of a model that does not say to which sides it pads


class AuxiliaryHead(nn.Module):
    """MMSegmentation's FCNHead with one convolution: 3x3, BatchNorm, ReLU, channel dropout, classifier.

    Args:
        in_channels: of the layer.
        channels: of the convolution.
        num_classes: K.
    """

    def __init__(self, in_channels: int, channels: int, num_classes: int):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=0.01)
        assert self.classifier.bias is not None
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> logits (B, K, h, w)"""
        logits: Tensor = self.classifier(self.dropout(self.norm(self.convolution(x)).relu()))
        return logits


class AuxiliaryBranch:
    """The head during training: its logits for the model's last forward pass, and the weight of its loss.

    Args:
        head: the bare module.
        forward: the same module as it is trained: distributed.
        layer: the module of the model whose output (B, C, h, w) it takes.
        weight: factor of its loss.
    """

    def __init__(self, head: AuxiliaryHead, forward: nn.Module, layer: nn.Module, weight: float):
        self.head, self.forward, self.weight = head, forward, weight
        self._output: Tensor | None = None
        layer.register_forward_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: object, output: Tensor) -> None:
        self._output = output if torch.is_grad_enabled() else None  # not in an evaluation

    def logits(self) -> Tensor:
        """Call it once after each forward pass; it then releases the activations."""
        assert self._output is not None, "the model was not called"
        output, self._output = self._output, None
        logits: Tensor = self.forward(output)
        return logits


def build_auxiliary(
    section: Auxiliary, model: nn.Module, num_classes: int, num_bands: int, crops_px: list[int]
) -> AuxiliaryHead:
    """The head on a layer of the model, with random weights, on the model's device.

    Args:
        section: a recipe's `model.auxiliary`.
        num_bands: of the images.
        crops_px: the sides of the crops, the largest, `augment.crop`, last.

    Raises:
        RecipeError: there is no such layer, its output is no map (B, C, h, w), or crops would be padded.
    """
    names = [name for name, _ in model.named_modules() if name]
    if section.layer not in names:
        near = get_close_matches(section.layer, names, n=1, cutoff=0.3) or names[:1]
        raise RecipeError(
            f"model.auxiliary.layer: no layer of this model is called {section.layer!r}. Type for example "
            f"model.auxiliary.layer={near[0]}"
        )
    multiple = getattr(model, "multiple_px", MULTIPLE_PX)
    least = max(multiple, getattr(model, "min_size_px", multiple))
    for px in crops_px:
        if px % multiple or px < least:  # else it is padded, and the layer's map covers more than the crop
            fitting = f"augment.crop={max(least, crops_px[-1] // multiple * multiple)}"
            smaller = " augment.progressive=[]" if len(crops_px) > 1 else ""
            raise RecipeError(
                f"model.auxiliary needs crops whose side divides by {multiple}, not of {px} px. Type "
                f"{fitting}{smaller}"
            )
    device = next(model.parameters()).device
    image = torch.zeros(1, num_bands, 2 * TRIAL_PX, 2 * TRIAL_PX, device=device)
    with torch.no_grad(), evaluating(model):
        output = outputs_of(model, [section.layer], lambda: model(image)).get(section.layer)
    if not (isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3] > 1):
        raise RecipeError(
            f"model.auxiliary.layer: {section.layer} gives no map (B, C, h, w). Name the stage of an encoder "
            "with model.auxiliary.layer, or type model.auxiliary=null"
        )
    return AuxiliaryHead(output.shape[1], section.channels, num_classes).to(device)
