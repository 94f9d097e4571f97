"""Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531): a student learns a teacher's soft labels."""

from torch import Tensor
from torch.nn import functional as F

from losses.statistics import Reduce, full_precision, identity, ratio_of_sums


def softened(logits: Tensor, temperature: float) -> Tensor:
    """(B, C, h, w) logits as probabilities at a temperature, 1 being the plain softmax."""
    return (full_precision(logits) / temperature).softmax(dim=1)


def distillation_loss(
    logits: Tensor, teacher: Tensor, temperature: float, valid: Tensor, reduce: Reduce = identity
) -> Tensor:
    """T^2 times KL(teacher || student), both at temperature T: the mean over valid pixels, 0 without any.

    The factor keeps the size of the gradient independent of T.

    Args:
        logits: of the student, (B, C, h, w).
        teacher: its probabilities at the temperature, (B, C, h, w).
        valid: (B, h, w) bool.
        reduce: sums over all processes.
    """
    student = (full_precision(logits) / temperature).log_softmax(dim=1)
    per_pixel = F.kl_div(student, teacher, reduction="none").sum(dim=1)  # (B, h, w)
    total, number = (per_pixel * valid).sum(), valid.sum().to(per_pixel)
    return temperature**2 * ratio_of_sums(total, number, reduce)
