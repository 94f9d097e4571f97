"""The figures of docs/losses.md for other libraries, and losses that should equal theirs (`-m peers`).

MMSegmentation does not install with the torch of this project, so its Dice is written again here from its
published definition (version 1.x, `DiceLoss`), and checked only against that description.
"""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

import losses
from losses.lovasz import lovasz
from losses.mcc import mcc
from losses.overlap import tversky

pytestmark = pytest.mark.peers
VOID = 255
NUM_CLASSES = 21


def mmsegmentation_dice(probabilities: Tensor, labels: Tensor) -> Tensor:
    """As in 1.x by default: of each image, all classes and pixels in one sum, squares in the denominator.

    A void pixel is no class's label, but its probabilities stay in the denominator. `1e-3` is added once to
    each of the two sums of squares.
    """
    own = torch.stack([labels == c for c in range(probabilities.shape[1])], 1).to(probabilities.dtype)
    overlap = (probabilities * own).sum((1, 2, 3))
    squares = probabilities.square().sum((1, 2, 3)) + own.square().sum((1, 2, 3)) + 2e-3
    return (1 - 2 * overlap / squares).mean()


def smp(name: str, **options: object) -> torch.nn.Module:
    peers = pytest.importorskip("segmentation_models_pytorch").losses
    return getattr(peers, name)("multiclass", **options)


def certain(labels: Tensor) -> Tensor:
    """Logits (B, C, H, W) that give all probability to the label, and to class 0 where it is void."""
    logits = 200 * one_hot(labels.where(labels != VOID, 0), NUM_CLASSES)
    return logits.permute(0, 3, 1, 2).double()


def test_a_perfect_prediction_with_a_fifth_void() -> None:
    labels = torch.arange(210 * 210).view(1, 210, 210) % NUM_CLASSES
    labels[:, ::5] = VOID
    logits = certain(labels)
    assert losses.Dice(VOID)(logits, labels).item() == 0
    assert mmsegmentation_dice(logits.softmax(1), labels).item() == pytest.approx(1 / 9, abs=5e-4)  # 0.111
    assert smp("DiceLoss", ignore_index=VOID)(logits, labels).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("num_present", "ours", "theirs"), [(1, 0.909, 0.043), (21, 0.952, 0.952)])
def test_uniform_logits_over_21_classes(num_present: int, ours: float, theirs: float) -> None:
    labels = (torch.arange(21 * 21) % num_present).view(1, 21, 21)
    logits = torch.zeros(1, NUM_CLASSES, 21, 21, dtype=torch.float64)
    assert losses.Dice(VOID)(logits, labels).item() == pytest.approx(ours, abs=5e-4)
    assert smp("DiceLoss", ignore_index=VOID)(logits, labels).item() == pytest.approx(theirs, abs=5e-4)


def all_classes_and_void(seed: int) -> tuple[Tensor, Tensor]:
    """SMP counts an absent class as a cost of 0, so it agrees only where no class is absent. In float32."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, NUM_CLASSES, 16, 20, generator=generator)
    labels = (torch.arange(2 * 16 * 20) % NUM_CLASSES).view(2, 16, 20)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = VOID
    assert all((labels == c).any() for c in range(NUM_CLASSES))
    return logits, labels


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_smp_where_every_class_is_present(seed: int) -> None:
    logits, labels = all_classes_and_void(seed)
    ours_and_theirs = [
        (losses.Dice(VOID)(logits, labels), smp("DiceLoss", ignore_index=VOID)(logits, labels)),
        (
            tversky(logits, labels, VOID, 0.3, 0.7),
            smp("TverskyLoss", ignore_index=VOID, alpha=0.3, beta=0.7)(logits, labels),
        ),
        (lovasz(logits, labels, VOID), smp("LovaszLoss", ignore_index=VOID)(logits, labels)),
        (
            lovasz(logits, labels, VOID, per_image=True),
            smp("LovaszLoss", ignore_index=VOID, per_image=True)(logits, labels),
        ),
    ]
    for ours, theirs in ours_and_theirs:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_equal_to_smp_jaccard_without_void() -> None:
    logits, labels = all_classes_and_void(0)
    labels = labels.where(labels != VOID, 0)
    torch.testing.assert_close(losses.Jaccard(VOID)(logits, labels), smp("JaccardLoss")(logits, labels))


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_smp_mcc_of_two_classes(seed: int) -> None:
    """SMP takes the probability of the second class, and has no void pixels."""
    logits, labels = all_classes_and_void(seed)
    logits, labels = logits[:, :2], (labels % 2).where(labels != VOID, 0)
    theirs = pytest.importorskip("segmentation_models_pytorch").losses.MCCLoss(eps=0.0)
    torch.testing.assert_close(mcc(logits, labels, VOID), theirs(logits.softmax(1)[:, 1], labels.float()))


@pytest.mark.parametrize("seed", range(3))
def test_class_weights_equal_those_of_kornia(seed: int) -> None:
    """Its Dice of one image is the weighted mean of the classes; its Lovasz divides by their number."""
    peers = pytest.importorskip("kornia").losses
    logits, labels = all_classes_and_void(seed)
    logits, labels = logits[:1], (torch.arange(16 * 20) % NUM_CLASSES).view(1, 16, 20)
    weights = torch.rand(NUM_CLASSES, generator=torch.Generator().manual_seed(seed)) + 0.1
    theirs = peers.dice_loss(logits, labels, average="macro", eps=0.0, weight=weights)
    torch.testing.assert_close(losses.Dice(VOID, class_weights=weights.tolist())(logits, labels), theirs)
    weights /= weights.mean()
    theirs = peers.lovasz_softmax_loss(logits, labels, weight=weights)
    torch.testing.assert_close(
        lovasz(logits, labels, VOID, class_weights=weights), theirs, rtol=1e-5, atol=1e-6
    )
