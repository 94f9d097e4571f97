"""Updates that are recorded as CUDA graphs and repeated, for `train.compile: max`.

A CUDA graph repeats the same kernels with the same arguments on the same memory, all started by one call, so
the host has nothing to compute. Two are recorded: from the batch to the gradients (forward pass, losses,
backward pass, discriminator), and from the gradients to the parameters (clipping, optimiser, loss scale,
watchdog). The averages of the weights stay outside, as their decay changes in every update.

What changes between updates has to be read from tensors: the batch and the learning rates are copied into
those that were recorded, and a graph draws its random numbers from the seed that torch has when it is
repeated. If one of the other numbers changes (`SupervisedStep.constants`, the size of the crops), updates are
ordinary ones until it has been the same for a few; then they are recorded again.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

import torch

from engine.data.batches import Batch
from engine.training.dropout import seed_update
from engine.training.fit import RunError
from engine.training.step import Metrics, SupervisedStep

# Ordinary updates before a recording, as in torch's documentation of CUDA graphs. They compile the model,
# let cuDNN choose kernels and create the state of the optimiser.
WARM_UP = 3
WITH_TENSOR_RATES = (torch.optim.Adam, torch.optim.SGD)  # and AdamW: their fused kernels read such a rate

Result = TypeVar("Result")


class Recorder(Protocol):
    """What records work, and repeats it."""

    def warming_up(self) -> AbstractContextManager[None]:
        """For ordinary updates before a recording, which run on the stream of the recording."""

    def record(self, work: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        """Record work without doing it; its result, and a function that does it and fills the result."""


class CudaGraphs:
    """A Recorder for one GPU.

    All of it is recorded on one stream, on which the updates before also run: autograd runs the backward
    pass of a parameter on the stream on which the parameter was used first.
    """

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)

    def record(self, work: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        # thread_local: other threads, such as those of the data, may use the device meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            result = work()
        return result, graph.replay


class RecordedUpdates:
    """Called in place of `SupervisedStep.update`.

    Raises:
        RunError: an update cannot be recorded, for example since a loss waits for the device.
    """

    def __init__(self, step: SupervisedStep, recorder: Recorder):
        self._step = step
        self._recorder = recorder
        self._constants: tuple[object, ...] = ()  # of the last update
        self._num_alike = 0  # updates in a row with these constants
        self._recording: _Recording | None = None
        for optimizer in step.optimizers.values():  # loading replaces the tensors of its state
            optimizer.register_load_state_dict_post_hook(lambda optimizer: self._forget())

    def __call__(self, batch: Batch) -> Metrics:
        tensors = batch.images, batch.labels
        constants = (*((tensor.shape, tensor.dtype) for tensor in tensors), *self._step.constants())
        if constants != self._constants:
            self._forget()
            self._constants = constants
        self._num_alike += 1
        if self._num_alike <= WARM_UP:
            with self._recorder.warming_up():
                return self._step.update(batch)
        if self._recording is None:
            with _naming_what_failed():
                self._recording = _Recording(self._step, self._recorder, batch)
        return self._recording(batch)

    def _forget(self) -> None:
        self._num_alike, self._recording = 0, None


class _Recording:
    """Updates with batches of one shape, and one value of each constant.

    An optimiser without a fused kernel waits for the device, so its update is not recorded, nor is that of
    the probe.
    """

    def __init__(self, step: SupervisedStep, recorder: Recorder, batch: Batch):
        self._step = step
        self._batch = Batch(batch.images.clone(), batch.labels.clone(), batch.ids)
        self._groups = [group for each in step.optimizers.values() for group in each.param_groups]
        self._rates = [batch.images.new_zeros((), dtype=torch.float32) for _ in self._groups]
        seed_update(step.settings.seed, step.count)  # a recording may not change the seed
        self._computed, self._compute = recorder.record(lambda: step.gradients(self._batch))
        parameters = [parameter for group in self._groups for parameter in group["params"]]
        self._gradients = [(parameter, parameter.grad) for parameter in parameters]
        self._applied: Metrics = {}
        self._apply: Callable[[], None] | None = None
        optimizers = step.optimizers.values()
        if all(isinstance(o, WITH_TENSOR_RATES) and o.defaults["fused"] for o in optimizers):
            with self._as_recorded():
                self._applied, self._apply = recorder.record(self._apply_once)

    def __call__(self, batch: Batch) -> Metrics:
        step = self._step
        self._batch.images.copy_(batch.images)
        self._batch.labels.copy_(batch.labels)
        seed_update(step.settings.seed, step.count)
        self._compute()
        if self._apply is None or step.probe_of("optimizer"):
            for parameter, gradient in self._gradients:
                parameter.grad = gradient
            applied = self._apply_once()
        else:
            for rate, group in zip(self._rates, self._groups, strict=True):
                rate.fill_(group["lr"])
            self._apply()
            applied = self._applied
        return {name: value.clone() for name, value in applied.items()}  # the next update overwrites them

    def _apply_once(self) -> Metrics:
        metrics, statistics = self._computed
        return self._step.apply(dict(metrics), statistics)

    @contextmanager
    def _as_recorded(self) -> Iterator[None]:
        """Rates are tensors, and nothing is measured. `capturable` is what Adam asks for, although its fused
        kernel has its state on the device anyway."""
        step, probe, before = self._step, self._step.probe, [dict(group) for group in self._groups]
        step.probe = None
        for group, rate in zip(self._groups, self._rates, strict=True):
            group |= {"lr": rate, "capturable": True}
        try:
            yield
        finally:
            step.probe = probe
            for group, own in zip(self._groups, before, strict=True):
                group.clear()
                group.update(own)


@contextmanager
def _naming_what_failed() -> Iterator[None]:
    """Raises RunError; memory that does not suffice is reported elsewhere."""
    try:
        yield
    except RuntimeError as error:
        causes = error.__context__, error  # the end of a recording that failed raises another error
        for cause in causes:
            if isinstance(cause, torch.OutOfMemoryError):
                raise cause from None
        reason = str(next(cause for cause in causes if cause)).partition("\n")[0]
        raise RunError(
            f"train.compile: max cannot record an update of this recipe: {reason}. Type the same command "
            "with train.compile=true, and, if the folder of the run is there, with --resume."
        ) from error
