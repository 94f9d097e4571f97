"""What to type to go on with a run, or with the stages of a recipe, from its folder.

Imports nothing of this project: the recipe and the run folder, which do not import each other, both use it.
"""

import shlex
from pathlib import Path

STAGES = "stages.json"  # in the folder around the runs of a recipe with stages


def to_go_on(folder: Path) -> str:
    """What to type to go on with a run, a stage of a recipe, or all its stages, from its folder."""
    if (folder / STAGES).is_file() and not (folder / "recipe.yaml").is_file():
        return "To go on with these stages, add --resume to the command that trained them."
    if (folder.resolve().parent / STAGES).is_file():  # the parent of `.` is `.`
        return (
            "To go on with this stage and those after it, add --resume to the command that trained them. "
            f"For this stage alone type {command_to_go_on(folder)}"
        )
    return f"To go on with this run type {command_to_go_on(folder)}"


def command_to_go_on(run: Path) -> str:
    """The command that goes on with a run, from its folder, which may have been moved."""
    run = run if run.name.strip(".") else run.resolve()  # of the working folder
    where = [f"output.dir={run.parent}", f"name={run.name}"]
    return shlex.join(["trident", "run", str(run / "recipe.yaml"), *where, "--resume"])
