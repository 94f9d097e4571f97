"""docs/architecture.md: the files that one batch passes through, recorded during an update."""

import re
import sys
from pathlib import Path
from types import FrameType

from engine.recipe import load_recipe
from engine.reporting.reporter import Reporter
from engine.run_folder import RunFolder
from engine.training.distributed import start_process
from engine.training.fit import Hooks, SkipGuard, fit
from engine.training.session import build_session
from losses.interpolation import interpolation_matrix

ROOT = Path(__file__).parents[1]
OVERRIDES = [
    "data.train=train", "data.resident=disk", "data.workers=0", "model.variant=b0", "model.weights=null",
    "model.from_scratch=true", "augment.crop=64", "train.batch=2", "train.steps=1", "schedule.warmup=0",
]  # fmt: skip
MOST = 21


def files_of_one_update(voc_folder: Path) -> list[str]:
    """The files of the project whose functions run, in their order."""
    recipe = load_recipe(ROOT / "recipes/b2_ce_dice.yaml", [*OVERRIDES, f"data.root={voc_folder}"])
    session = build_session(recipe, start_process(), lambda what: lambda done, total: None)
    reporter = Reporter([], session.step.learning_rates, session.process.device)
    guard = SkipGuard(RunFolder(Path("run")), lambda flags: None, "stop", 1, lambda step: None)
    found: dict[str, None] = {}

    def record(frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT) and path.suffix == ".py":
            found[path.relative_to(ROOT).as_posix()] = None

    interpolation_matrix.cache_clear()  # or its file does not run, where another test has filled the cache
    sys.setprofile(record)
    try:
        hooks = Hooks(guard)
        fit(session.step, session.batches, reporter, hooks, num_steps=1, eval_every=100, log_every=100)
    finally:
        sys.setprofile(None)
    ours = ("engine/", "models/", "losses/")
    return [name for name in found if name.startswith(ours) and name != "engine/reporting/reporter.py"]


def test_a_batch_passes_through_the_files_that_the_page_lists(voc_folder: Path) -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    block = page[page.index("**One batch**") :].split("```")[1]
    listed = re.findall(r"^(\S+\.py)", block, flags=re.MULTILINE)
    assert files_of_one_update(voc_folder) == listed
    assert len(listed) <= MOST
