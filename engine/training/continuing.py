"""A new run that goes on from the state of another one, with another recipe: `--continue-from`."""

import shlex

from engine.data.bands import model_inputs
from engine.recipe import Recipe, load_recipe
from engine.recipe.differences import changes
from engine.run_folder import Changed, Manifest, Origin, RunFolder, RunFolderError
from engine.training.checkpoint import load_state
from engine.training.optim import parameter_groups
from engine.training.schedule import start_of_decay
from engine.training.session import Session
from models import build_model

INITIAL = ("model.weights", "model.from_scratch", "model.freeze")  # they change no layer of the model


def continue_from(source: RunFolder, session: Session) -> tuple[Origin, Manifest]:
    """Load the state of a run into the step of another one; parts that are new in its recipe start anew.

    Returns:
        The origin that the new run records, and the manifest of the old run.

    Raises:
        RunFolderError: it is not a run, it has no intact state, or the state does not fit this recipe.
    """
    what = f"--continue-from {source.path}"
    manifest = source.read_manifest()
    if not source.states:
        raise RunFolderError(f"{what}: it has no state, {source.last_state}. {_instead(source, manifest)}")
    before, now = load_recipe(source.recipe), session.recipe
    different = [change for change in changes(before, now, all_keys=True) if change.key != "name"]
    changed = [Changed(**change._asdict()) for change in different]
    _require_fitting(source, manifest, session, before, changed)
    load_state(source, session.step, manifest.run_id, onto_another=True)
    count, num_steps = session.step.count, int(now.train.steps)
    if count >= num_steps:
        raise RunFolderError(
            f"{what}: its state is that of update {count}, and this training ends at {num_steps}. Type a "
            f"larger train.steps, such as train.steps={2 * count}."
        )
    if before.schedule.name == "wsd" and count > start_of_decay(before.schedule, int(before.train.steps)):
        session.notes.append(
            f"{what}: its state was saved in the decay of its schedule, so the rate rises again. A stable "
            "phase is prolonged from a run with schedule.decay=0, or from one that was stopped in it."
        )
    old_images, images = manifest.data.train_fingerprint, session.train.fingerprint()
    if images != old_images:
        changed.append(Changed(key="images of data.train", before=old_images, now=images))
    return Origin(run=str(source.path), run_id=manifest.run_id, step=count, changes=changed), manifest


def _require_fitting(
    source: RunFolder, manifest: Manifest, session: Session, before: Recipe, changed: list[Changed]
) -> None:
    """Raises RunFolderError where the state of a run does not fit the model, optimiser or classes.

    Args:
        before: the recipe of that run. changed: what the new recipe has changed.
    """
    other_model = [c for c in changed if c.key.startswith("model.") and c.key not in INITIAL]
    if other_model and _is_same_network(session, before):
        other_model = []  # only dropout, for example
    fixed = ("optimizer.name", "model.freeze", "model.auxiliary")  # the head is in the optimiser's groups
    others = other_model + [c for c in changed if c.key.startswith(fixed) and c not in other_model]
    if not others and _grouping(session, before) != _grouping(session, session.recipe):
        others += [c for c in changed if c.key.startswith("optimizer.")]  # moments are saved by group
    classes = list(session.train.class_names)
    if classes != manifest.class_names:
        others.append(Changed(key="classes", before=", ".join(manifest.class_names), now=", ".join(classes)))
    if others:
        lines = "\n".join(f"  {change}" for change in others)
        raise RunFolderError(
            f"--continue-from {source.path}: its state does not fit this recipe:\n{lines}\n"
            + (
                "Undo the changes of the model, or train it from its own weights: leave --continue-from out."
                if other_model
                else _instead(source, manifest)
            )
        )


def _is_same_network(session: Session, recipe: Recipe) -> bool:
    """Whether the model of a recipe has tensors of the same names and shapes."""
    models = (
        session.step.model,
        build_model(recipe.model, session.train.class_names, **model_inputs(recipe.data)),
    )
    one, two = ({key: value.shape for key, value in model.state_dict().items()} for model in models)
    return one == two


def _grouping(session: Session, recipe: Recipe) -> list[list[int]]:
    """Which parameters are in which group of the optimiser."""
    branch = session.step.auxiliary
    groups = parameter_groups(session.step.model, recipe.optimizer, branch.head if branch else None)
    return [[id(parameter) for parameter in group["params"]] for group in groups]


def _instead(source: RunFolder, manifest: Manifest) -> str:
    if not manifest.members:
        return "It has kept no checkpoint either: leave --continue-from out."
    return (
        "From its best checkpoint, with a new optimiser: the same command without --continue-from and with "
        + shlex.join(["model.from_scratch=false", f"model.weights={source.path}"])
    )
