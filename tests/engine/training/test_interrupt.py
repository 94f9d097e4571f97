"""Signals that this process sends to itself."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from engine.training.distributed import Process
from engine.training.interrupt import StopSignal

ALONE = Process(0, 1, torch.device("cpu"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_is_remembered_and_acknowledged(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with StopSignal(ALONE, every=50) as stop:
        assert not stop.requested(3)
        signal.raise_signal(number)
        assert stop.requested(3) and stop.requested(4)
    assert "at once" in capsys.readouterr().err


def test_a_second_signal_stops_at_once_unless_it_is_the_same_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("engine.training.interrupt.time.monotonic", lambda: now)
    with pytest.raises(KeyboardInterrupt), StopSignal(ALONE, every=50) as stop:
        signal.raise_signal(signal.SIGTERM)
        now += 1.9
        signal.raise_signal(signal.SIGINT)
        assert stop.requested(3)
        now += 0.2
        signal.raise_signal(signal.SIGINT)


def test_an_ignored_signal_stays_ignored() -> None:
    """As nohup leaves SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal(ALONE, every=50) as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested(3)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_previous_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignal(ALONE, every=50):
        assert signal.getsignal(signal.SIGINT) != before[0]
    with pytest.raises(ZeroDivisionError), StopSignal(ALONE, every=50):
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_no_handlers_are_set() -> None:
    before = signal.getsignal(signal.SIGINT)

    def handler_inside() -> object:
        with StopSignal(ALONE, every=50) as stop:
            assert not stop.requested(50)
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(handler_inside).result() == before
