"""Stops a training whose loss became NaN or infinite."""

import torch
from torch import Tensor


class RunError(RuntimeError):
    """The run failed, though its input was right. The files that it saved are complete."""

    exit_code = 1


class FiniteGuard:
    """Remembers on the device whether any loss was NaN or infinite; only `check` waits for the device."""

    def __init__(self) -> None:
        self._broken: Tensor | None = None

    def watch(self, metrics: dict[str, Tensor]) -> None:
        """Adds the scalars of an update.

        Only those without a "/" in their name are checked: a NaN under "adv/" never reaches the model
        (`adv/d_skipped` reports it), and in fp16 "gradients/" may be infinite, in an update that the loss
        scaler then skips.
        """
        losses = [value.float() for name, value in metrics.items() if "/" not in name]
        broken = ~torch.isfinite(torch.stack(losses)).all()
        self._broken = broken if self._broken is None else self._broken | broken

    def check(self, step: int) -> None:
        """Raises RunError if any loss so far was NaN or infinite."""
        if self._broken is not None and bool(self._broken):
            raise diverged(step)


def diverged(step: int) -> RunError:
    """The error for losses or probabilities that became NaN or infinite."""
    return RunError(
        f"The loss became NaN or infinite at or shortly before step {step}; the run stops. What was "
        "saved at the last evaluation is kept. Try a lower optimizer.lr, a longer schedule.warmup, "
        "optimizer.clip_norm=1, or train.precision=fp32."
    )
