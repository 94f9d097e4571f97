"""Recipe lines that may solve a problem of a training, each defined once.

They are suggested at the start of a training (`engine.training.imbalance`), while it runs
(`engine.reporting.advisor`) and after it (`recommendations.py`). A remedy is text: `key.path=value` as it is
typed after a recipe, several with spaces between them where they belong together, or a command.
"""

from collections.abc import Iterable

from engine.recipe import Recipe, explain

CHECK_DATA = "trident doctor <recipe>"
FIND_LR = "trident lr_find <recipe>"
PACK_DATA = "trident prepare pack <recipe> --out data.h5"
SAMPLE_RARE = "data.sampler=rare"
AVERAGE_WEIGHTS = "train.ema=0.999"
DATA_WAIT_SHARE = 0.2  # of the time of an update: above it, training waits too long for data


def not_followed(recipe: Recipe, remedies: Iterable[str]) -> tuple[str, ...]:
    """The remedies that are commands, or that change the recipe."""
    words = {None: "null", True: "true", False: "false"}  # as they are typed
    values = {
        key: words[value] if value is None or isinstance(value, bool) else str(value)
        for key, value, *_ in explain(recipe)
    }

    def current(key: str) -> str:
        is_section = any(name.startswith(f"{key}.") for name in values)
        return values.get(key, "set" if is_section else "null")

    def is_new(remedy: str) -> bool:
        pairs = [override.partition("=") for override in remedy.split()]
        return any(not equals or not _equal(current(key), value) for key, equals, value in pairs)

    return tuple(filter(is_new, remedies))


def lower_lr(recipe: Recipe, factor: float) -> str:
    """The learning rate divided by `factor`; the schedule's floor goes to 0 where it would be above that."""
    lr = recipe.optimizer.lr / factor
    floor = " schedule.min_lr=0" if recipe.schedule.min_lr > lr else ""
    return f"optimizer.lr={lr:.1e}{floor}"


def weigh_classes(recipe: Recipe) -> tuple[str, ...]:
    """Class weights for the first loss term that has the option; empty where a term uses them already."""
    weights = {
        place: term.class_weights for place, term in enumerate(recipe.loss) if hasattr(term, "class_weights")
    }
    if not weights or any(value not in (None, "none") for value in weights.values()):
        return ()
    return (f"loss.{min(weights)}.class_weights=median",)


def help_rare_classes(recipe: Recipe) -> tuple[str, ...]:
    """Draw their images more often, and weigh their pixels more."""
    return not_followed(recipe, (SAMPLE_RARE, *weigh_classes(recipe)))


def keep_images_in_memory(recipe: Recipe, place: str = "ram") -> tuple[str, ...]:
    """Keep decoded images in "ram" or on the "gpu"; empty where the recipe does so already."""
    return () if recipe.data.resident in ("ram", "gpu") else (f"data.resident={place}",)


def pretrained_weights(recipe: Recipe, variant: str) -> str:
    """Of ImageNet, for the encoder of this recipe; `variant` is that of SegFormer, b0 to b5."""
    is_segformer = recipe.model.arch == "segformer" and recipe.model.encoder is None
    return f"model.weights=hf:nvidia/mit-{variant}" if is_segformer else "model.weights=smp:imagenet"


def _equal(current: str, wanted: str) -> bool:
    try:
        return float(current) == float(wanted)
    except ValueError:
        return current == wanted
