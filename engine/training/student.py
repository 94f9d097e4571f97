"""A student of an ensemble (`trident ensemble ... --distill OUT`): its folder, its recipe and its training.

OUT/
    teacher/       the ensemble
    student.yaml   the recipe of the student
    student/       its run
    distill.json   scores and cost of student, ensemble and best member
"""

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rich.console import Console

from engine.data.sample import require_one_class_a_pixel
from engine.options import seconds_of
from engine.recipe import Recipe, load_recipe
from engine.recipe.commented import commented
from engine.recipe.differences import changes
from engine.run_folder import (
    Changed,
    EnsembleFolder,
    RunFolder,
    RunFolderError,
    require_intact,
    require_unused,
    write_text,
)
from engine.scoring.ensembles.saved import require_no_remains
from engine.scoring.ensembling import Candidate
from engine.training.distributed import process_group
from engine.training.train import train

OURS = ("name", "output", "output.dir", "distill", "distill.teacher")  # keys that have to be as they are


@dataclass(frozen=True)
class Student:
    """The folder of a student, and its recipe; nothing is written before `write_recipe`."""

    path: Path
    recipe: Recipe

    @classmethod
    def planned(cls, path: Path, first: Candidate, overrides: Sequence[str]) -> Self:
        """The recipe is that of the run of `first`, with the teacher in the folder and `overrides`.

        Raises:
            RecipeError, DataError: an override is wrong, or classes overlap.
            RunFolderError: an override is of a key that --distill sets; the folder holds something else, or
                another process uses it.
        """
        for text in overrides:
            if text.partition("=")[0].strip() in OURS:
                raise RunFolderError(
                    f"{text}: --distill sets the student's name, folder and teacher. Leave it out. Set the "
                    "other values of the teacher one by one: distill.weight=2.0 distill.temperature=2.0"
                )
        data = load_recipe(first.run.recipe, imports=False).data
        require_one_class_a_pixel(data, "--distill", "Leave --distill out.")
        teacher, folder = json.dumps(str(path / "teacher")), json.dumps(str(path))
        own = [f"distill.teacher={teacher}", "name=student", f"output.dir={folder}"]
        student = cls(path, load_recipe(first.run.recipe, [*overrides, *own], trains=True))
        student._require_own()
        return student

    @property
    def teacher(self) -> EnsembleFolder:
        return EnsembleFolder(self.path / "teacher")

    @property
    def file(self) -> Path:
        return self.path / "student.yaml"

    @property
    def run(self) -> RunFolder:
        return RunFolder.of(self.recipe)

    @property
    def table(self) -> Path:
        return self.path / "distill.json"

    @property
    def command(self) -> str:
        """The command that trains the student, or resumes its training."""
        return f"trident run {shlex.quote(str(self.file))} --resume"

    def _require_own(self) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RunFolderError("--distill trains in one process: start it without torchrun.")
        if not self.path.exists() or not any(self.path.iterdir()):
            return
        require_no_remains(self.teacher.path)
        if not (self.file.is_file() or self.teacher.manifest.is_file()):
            raise RunFolderError(
                f"{self.path} is not empty, and was not made by --distill. Type --distill <a new folder>"
            )
        if self.teacher.manifest.is_file():
            self._require_intact_teacher()
        before = load_recipe(self.file, imports=False) if self.file.is_file() else self.recipe
        if found := changes(before, self.recipe):
            lines = [f"  {Changed(**change._asdict())}" for change in found]
            other = f"remove {self.file} (nothing was trained from it yet), " if self.run.is_new else ""
            raise RunFolderError(
                f"{self.file} is another recipe:\n"
                + "\n".join(lines)
                + f"\nUndo these changes, {other}or type --distill <a new folder>"
            )
        require_unused(self.run.path)

    def _require_intact_teacher(self) -> None:
        try:
            manifest = self.teacher.read_manifest()
            for member in manifest.members:
                require_intact(self.teacher.path / member.file, member.sha256)
        except RunFolderError as error:
            again = f"Or remove the folder {self.teacher.path}: the same command makes it again."
            raise RunFolderError(f"{error} {again}") from None

    def of_another_teacher(self) -> RunFolderError:
        """The error if the teacher in the folder differs from the ensemble that was selected now."""
        return RunFolderError(
            f"{self.teacher.path} differs from the ensemble that these runs and methods give now. To train "
            f"its student, type {self.command}\nor name another folder: --distill <a new folder>"
        )

    def write_recipe(self) -> None:
        """Write student.yaml, unless it exists."""
        if self.file.is_file():
            return
        head = [
            "A student of the ensemble in teacher/, written by trident ensemble --distill.",
            f"Trained by that command, or by: {self.command}",
            "Every key and its default: docs/recipe.md.",
        ]
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.file, commented(self.recipe, head))

    def train(self, console: Console) -> None:
        """Train the student, or resume its training; does nothing if it is finished.

        Raises:
            As `engine.training.train.train`.
        """
        if self.run.is_finished:
            console.print(f"the student is finished: {self.run.path}", markup=False)
            return
        with process_group(seconds_of(self.recipe.train.timeout)) as process:
            train(self.recipe, process, console, resume=True)
