"""The errors of a training whose input was correct."""


class RunError(RuntimeError):
    """The run failed, although its input was correct. The files that it saved are complete."""

    exit_code = 1


def diverged(step: int) -> RunError:
    """The error for weights or probabilities that became NaN or infinite."""
    return RunError(
        f"The loss became NaN or infinite at or shortly before step {step}; the run stops. What was "
        "saved before is kept. Try a lower optimizer.lr, a longer schedule.warmup, "
        "optimizer.clip_norm=1, or train.precision=fp32."
    )
