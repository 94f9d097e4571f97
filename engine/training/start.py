"""The start of a new run: its folder, its manifest and its first state."""

import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path

import torch

import engine.data
from engine import __version__
from engine.data.doctor import DataReport
from engine.data.overlap import shared_images
from engine.data.resident import IMAGES, kept_where
from engine.run_folder import (
    DataIdentity,
    Manifest,
    RunFolder,
    RunFolderError,
    locked,
    write_json,
    write_text,
)
from engine.training.checkpoint import save_state
from engine.training.continuing import continue_from
from engine.training.disk_space import require_room
from engine.training.distributed import Process, wait_for_all
from engine.training.interrupt import RunStopped
from engine.training.session import Session, num_parameters

CPU_INFO = Path("/proc/cpuinfo")


@contextmanager
def new_run(
    run: RunFolder,
    session: Session,
    report: DataReport | None,
    source: RunFolder | None = None,
) -> Iterator[Manifest]:
    """Create the folder of a new run, and lock it for the time of the training.

    The state is saved at once, so that a resume always finds one. If the run fails before the end of its
    first update, the folder is removed again if it was new; otherwise only the state is removed.

    Args:
        report: the doctor's findings in the data, which are kept in the folder.
        source: a run from whose state this one goes on.

    Raises:
        RunFolderError: another process trains in the folder; the state of `source` does not fit; the disk is
            too small.
    """
    manifest = _new_manifest(session)
    if source:
        manifest.continued_from, old = continue_from(source, session)
        manifest.weights = old.weights
        session.notes.append(manifest.continued_from.told(f"goes on from {source.path}"))
    first = session.step.count
    keep = session.recipe.keep
    require_room(run, session.step, keep.top, keep.tail)
    was_new = run.is_new
    missing = [path for path in (run.path, *run.path.parents) if not path.exists()]
    with held(run, session.process):
        if session.process.is_main and not run.kept_nothing():
            raise RunFolderError(
                f"{run.path} was filled by another process in the meantime. Add --resume to the same "
                "command to go on with it, or start another run with name=<another name>."
            )
        try:
            if session.process.is_main:
                run.sweep()
                run.create()
                run.write_manifest(manifest)  # first: it tells the folder of a run from a user's
                write_text(run.recipe, session.recipe.to_yaml())
                if report:
                    write_json(run.doctor, report.to_dict())
                run.write_final(manifest, run.recipe, run.doctor)
            wait_for_all(session.process)
            if session.process.is_main or session.step.is_sharded:
                save_state(run, session.step, manifest.run_id)
            wait_for_all(session.process)
            yield manifest
        except RunStopped:
            raise
        except BaseException:
            if session.process.is_main and session.step.count == first:
                if was_new:
                    _remove(run.path, missing)
                for state in run.states:  # so that the same command starts again, also with other values
                    state.unlink()
            raise


def held(run: RunFolder, process: Process) -> AbstractContextManager[None]:
    """The lock on the folder, which the main process holds for all."""
    return locked(run.path) if process.is_main else nullcontext()


def _remove(folder: Path, missing: list[Path]) -> None:
    """Delete a run folder and its new parents; if the run folder was there before, it is left empty."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder not in missing:
        folder.mkdir()
    for parent in missing[1:]:
        with suppress(OSError):  # another run has started next to it
            parent.rmdir()


def _new_manifest(session: Session) -> Manifest:
    data = session.recipe.data
    val = session.val if not data.select else engine.data.open_split(data, data.val)
    return Manifest(
        name=session.recipe.name,
        code_version=__version__,
        class_names=list(session.train.class_names),
        palette=list(session.train.palette),
        data=DataIdentity(
            format=data.format,
            train=data.train,
            val=data.val,
            train_fingerprint=session.train.fingerprint(),
            val_fingerprint=val.fingerprint(),
            num_val_trained_on=len(shared_images(val, session.train)),
            num_unlabelled=len(session.unlabelled or ()),
            unlabelled_fingerprint=session.unlabelled.fingerprint() if session.unlabelled else None,
        ),
        metric=session.recipe.keep.score,
        bands=list(session.train.bands) if session.train.bands else None,
        normalisation=None if data.normalisation == "auto" else data.normalisation.model_dump(),
        weights=session.weights.to_dict() if session.weights else None,
        num_parameters=num_parameters(session.step.model),
        environment=environment(session.process)
        | {IMAGES: kept_where(session.train)}
        | {key: f"{value}, chosen by auto" for key, value in session.chosen.items()},
        run_id=uuid.uuid4().hex,
    )


def environment(process: Process) -> dict[str, str]:
    """Versions, device, processes, system and time of the start, as text by name."""
    facts = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": _device_name(process.device),
        "processes": str(process.world_size),
        "threads": f"{torch.get_num_threads()} per process, of {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "started": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    }
    if process.device.type == "cuda":
        facts["CUDA"] = str(torch.version.cuda)
    return facts


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"CPU, {models[0] if models else platform.processor() or platform.machine()}"
