"""Detects a process of the training that no longer responds, and ends all with a message that names it.

A collective of torch waits for a stopped process until its timeout, and its error does not name the process.
Here a thread of each process writes a counter to the group's store, and reads those of the others. A process
that works alone for long (the doctor, a slow disk) keeps counting, so `meet` waits for it without a limit.
"""

import os
import platform
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from torch._C._distributed_c10d import Store  # torch.distributed has it, but not for mypy

from engine.training.fit import GO_ON, RunError

POLL_S, MOST_POLL_S = 0.01, 0.2  # how often `meet` looks whether all have arrived, at first and later
MOST_S = 5.0  # between two counts
ENDED = "ended"


class GroupError(RunError):
    """A process of the training does not respond, has ended, or never started."""


class Heartbeat:
    """Counters of all processes, in a store that they share.

    Silence is measured by the number of own looks, not by the clock: after this process was suspended, it
    must not take the others for lost.

    Args:
        store: of this group alone.
        timeout_s: the silence after which a process counts as lost, and how long all may take to start.

    Raises:
        GroupError: not all started in time; the error names those that did not.
    """

    def __init__(self, store: Store, rank: int, world_size: int, timeout_s: float):
        self._store, self._own = store, store.clone()  # a connection for the thread, as the other may wait
        self.rank, self.world_size, self.timeout_s = rank, world_size, timeout_s
        self._interval_s = min(MOST_S, timeout_s / 20)
        self._most_looks = round(timeout_s / self._interval_s)
        self._collectives = 0  # that this process has entered
        self._meetings = 0
        self._meets = False
        self._beats = ["0 0"] * world_size  # of each process, as last read
        self._unchanged = [0] * world_size  # for how many reads
        self._looks = {"since the store answered": 0, "since a collective": 0}
        self._stop = threading.Event()
        self._names = self._call_roll()
        self._exchanging = threading.Thread(target=self._exchange, daemon=True)
        self._exchanging.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def _call_roll(self) -> list[str]:
        """A description of each process."""
        ranks = range(self.world_size)
        self._store.set(f"beat/{self.rank}", "0 0")
        self._store.set(f"name/{self.rank}", f"rank {self.rank}, process {os.getpid()} on {platform.node()}")
        until = time.monotonic() + self.timeout_s
        while missing := [rank for rank in ranks if not self._store.check([f"name/{rank}"])]:
            if time.monotonic() > until:
                raise GroupError(
                    f"{'; '.join(f'rank {rank}' for rank in missing)} of {self.world_size} processes did not "
                    f"start within {self._minutes}. Start one process for each rank, or raise train.timeout."
                )
            time.sleep(POLL_S)
        return [self._store.get(f"name/{rank}").decode() for rank in ranks]

    def entering_collective(self) -> None:
        """Call it before a collective, so that a process that never enters it is found."""
        self._collectives += 1
        self._looks["since a collective"] = 0

    def meet(self) -> None:
        """Wait until all processes are here, without a time limit for those that still count.

        Raises:
            GroupError: one of them has ended with an error.
        """
        self._meetings += 1
        key = f"met/{self._meetings}"
        self._store.add(key, 1)
        self._meets, poll_s = True, POLL_S
        while self._store.add(key, 0) < self.world_size:
            if ended := self._that_ended():
                raise GroupError(self._ended(ended))
            time.sleep(poll_s)
            poll_s = min(1.1 * poll_s, MOST_POLL_S)
        self._meets = False
        self._looks["since a collective"] = 0

    def explained(self, error: Exception) -> GroupError:
        """The error to raise for one of a collective or of the store; it names the lost processes."""
        before = list(self._unchanged)
        time.sleep(4 * self._interval_s)
        lost = [
            rank
            for rank in range(self.world_size)
            if rank != self.rank and (self._beats[rank] == ENDED or self._unchanged[rank] >= before[rank] + 2)
        ]
        if not lost and self._looks["since the store answered"] > 2:  # rank 0 has the store
            lost = [0]
        return GroupError(f"{self._ended(lost)} ({str(error).splitlines()[0]})")

    def stop(self, failed: bool) -> None:
        """Before the process leaves the group.

        Args:
            failed: whether it leaves because of an error, so that the others are told.
        """
        self._stop.set()
        self._exchanging.join(self._interval_s)
        if failed and not self._exchanging.is_alive():  # else the store does not answer
            with suppress(RuntimeError):  # the store has ended before
                self._store.set(f"beat/{self.rank}", ENDED)

    def _exchange(self) -> None:
        """In a separate thread, as the store does not respond if its process is stopped."""
        keys, count = [f"beat/{rank}" for rank in range(self.world_size)], 0
        with suppress(RuntimeError):  # the store has ended
            while not self._stop.wait(self._interval_s):
                count += 1
                self._own.set(keys[self.rank], f"{count} {self._collectives}")
                beats = [beat.decode() for beat in self._own.multi_get(keys)]
                for rank, beat in enumerate(beats):
                    self._unchanged[rank] = 0 if beat != self._beats[rank] else self._unchanged[rank] + 1
                self._beats = beats
                self._looks["since the store answered"] = 0

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            for name in self._looks:
                self._looks[name] += 1
            if self._looks["since a collective"] > self._most_looks and (message := self._lost()):
                print(f"trident: {message}", file=sys.stderr, flush=True)
                if self.rank == 0:  # the store may be its own, and the others look at it too
                    time.sleep(4 * self._interval_s)
                os._exit(GroupError.exit_code)  # the main thread may wait in a collective for ever

    def _lost(self) -> str:
        """Which process is lost, or an empty text."""
        if ended := self._that_ended():
            return self._ended(ended)
        silent = [rank for rank, looks in enumerate(self._unchanged) if looks > self._most_looks]
        if self._looks["since the store answered"] > self._most_looks:
            silent = [0]  # where the store is
        if silent:
            return self._message(silent, f"did not respond for {self._minutes}")
        late = behind(self._beats, self._collectives)
        all_run = max(self._unchanged) <= 2 and self._looks["since the store answered"] <= 2
        if late and all_run and not self._meets:
            return self._message(late, f"still runs, but the others have waited {self._minutes} for it")
        return ""

    def _that_ended(self) -> list[int]:
        return [rank for rank, beat in enumerate(self._beats) if beat == ENDED]

    def _ended(self, ranks: list[int]) -> str:
        if not ranks:
            return self._message([], "The connection to another process broke")
        return self._message(ranks, "has ended; its own message says why, unless it was killed")

    def _message(self, ranks: list[int], what: str) -> str:
        names = "; ".join(self._names[rank] for rank in ranks)
        return f"{names} {what}".strip() + f". So all processes end. {GO_ON}"

    @property
    def _minutes(self) -> str:
        return f"{self.timeout_s / 60:.3g} min (train.timeout)"


def behind(beats: Sequence[str], collectives: int) -> list[int]:
    """The ranks of the running processes that have entered fewer collectives.

    One may have ended since they were last looked for, as another thread reads the beats.

    Args:
        beats: of each process, a count and its collectives, or ENDED.
    """
    running = ((rank, beat.split()) for rank, beat in enumerate(beats) if beat != ENDED)
    return [rank for rank, (_, entered) in running if int(entered) < collectives]
