"""Messages of trident prepare, and about packs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.command import main
from tests.engine.remedies.provoking import RUN, Case, every, require_remedies_work
from tests.engine.remedies.sandbox import annotated, voc

PACKED = f"{RUN} data.format=packed data.root=p.h5"


def pack(*words: str) -> Callable[[], None]:
    def draw() -> None:
        voc()
        assert main(["prepare", "pack", "r.yaml", "--out", "p.h5", *words]) == 0

    return draw


def broken_pack() -> None:
    pack()()
    Path("p.h5").write_bytes(Path("p.h5").read_bytes()[:-100])


CASES = [
    Case(". To train on it:", "prepare pack r.yaml --out p.h5", then=RUN),
    Case("or type --overwrite to replace it", "prepare pack r.yaml --out p.h5", pack(), ("--overwrite",)),
    Case("that are not those of data.classes", f"{PACKED} data.classes=[a,b]", pack()),
    Case("and has 8 bits per channel since. Type data.range=auto", f"{PACKED} data.range=[0,9]", pack()),
    Case("for void; type data.ignore_index=", f"{PACKED} data.ignore_index=254", pack()),
    Case("a pack needs", f"{RUN} data.root=p.h5", pack()),
    Case("files of a pack; type data.root=", f"{RUN} data.format=packed data.root=p-00000-of-00006.h5",
         pack("--shard-size", "2KB")),
    Case("Pack it again: trident prepare pack", f"{PACKED} --debug", broken_pack, blanks={"file": "new.h5"}),
    Case("and data.bands says", f"{PACKED} data.bands=4", pack()),
    Case("works on one set. Type data.also=[]",
         "prepare masks r.yaml 'data.also=[{root: voc, train: train, name: other}]' --out drawn"),
    Case("To train on them: trident new", "prepare masks own --out drawn", annotated()),
    Case("With a folder no value can be overridden", "prepare masks own seed=1 --out drawn", annotated()),
]  # fmt: skip


@every(CASES)
def test_what_is_typed_next_works(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_remedies_work(case, capsys)
