"""Stops a training that has become meaningless. Knows nothing of models."""

import torch
from torch import Tensor


class RunError(RuntimeError):
    """The run failed through no wrong input; what it saved is whole."""

    exit_code = 1


class FiniteGuard:
    """Remembers on the device whether any loss was not finite; looking is free until somebody asks."""

    def __init__(self) -> None:
        self._broken: Tensor | None = None

    def watch(self, metrics: dict[str, Tensor]) -> None:
        """Takes the scalars of an update, on the device; does not wait for them.

        Those under a heading may break: what is "adv/" does not reach the model, and its own guard says so;
        "gradients/" are infinite now and then in fp16, where the loss scaler leaves such an update out.
        """
        watched = [value.float() for name, value in metrics.items() if "/" not in name]
        broken = ~torch.isfinite(torch.stack(watched)).all()
        self._broken = broken if self._broken is None else self._broken | broken

    def check(self, step: int) -> None:
        """Raises RunError if a watched number was NaN or infinite."""
        if self._broken is not None and bool(self._broken):
            raise diverged(step)


def diverged(step: int) -> RunError:
    """What to say of a model whose numbers are none any more."""
    return RunError(
        f"The loss became NaN or infinite at or shortly before step {step}; the run stops. What was "
        "saved at the last evaluation is kept. Try a lower optimizer.lr, a longer schedule.warmup, "
        "optimizer.clip_norm=1, or train.precision=fp32."
    )
