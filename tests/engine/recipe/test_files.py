"""The files in recipes/: the recipes that are shipped, and the JSON schema."""

import json
from pathlib import Path

import pytest
import yaml

from engine.recipe import Recipe, load_recipe, load_stages, recipe_schema
from engine.recipe.differences import changes
from engine.recipe.reference import reference_page

ROOT = Path(__file__).parents[3]
OF_STAGES = ROOT / "recipes/b2_full.yaml"
SHIPPED = sorted({*(ROOT / "recipes").glob("*.yaml")} - {OF_STAGES})


def test_the_recipes_that_the_readme_names_are_there() -> None:
    assert OF_STAGES.is_file()
    assert {path.stem for path in SHIPPED} == {
        *("demo", "b0_ce", "b0_ce_dice", "b0_adv", "b2_ce", "b2_ce_dice", "b2_adv"),
        *("b4_ce_dice", "b4_adv", "b5_ce_dice", "b5_adv"),
        *("coco_b2", "b2_from_coco", "lite0_photos", "lite0_voc", "lite2_voc"),
        *("upernet_convnext", "deeplabv3plus_r50", "unet_r34", "dpt_vit", "dpt_dinov2_s", "dpt_dinov2_b"),
    }


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.model.weights or recipe.model.from_scratch
    assert (recipe.adversarial is not None) == path.stem.endswith("_adv")
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    opening = text.split("\n\n")[0]
    for word in ("# paper  ", "arXiv", "# command  ", f"trident run {path.stem}", "# score  ", "# time  "):
        assert word in opening
    base = yaml.safe_load(text).get("base")
    assert base is None or "base" not in yaml.safe_load((path.parent / base).read_text()), "one level of base"


def test_the_shipped_recipes_differ_as_documented() -> None:
    recipes = {path.stem: load_recipe(path) for path in SHIPPED}
    adv = recipes["b2_adv"]
    assert (adv.data.train, adv.augment.crop, adv.train.batch, adv.train.steps) == (
        "trainaug",
        512,
        16,
        40000,
    )
    assert (adv.optimizer.lr, adv.schedule.name, adv.schedule.warmup) == (6e-5, "poly", 1500)
    assert [loss.name for loss in adv.loss] == ["cross_entropy", "dice"]
    assert [loss.name for loss in recipes["b2_ce"].loss] == ["cross_entropy"]
    for size in ("b4", "b5"):  # the discriminator is all that differs
        plain, refined = (recipes[f"{size}_{part}"].model_dump() for part in ("ce_dice", "adv"))
        assert {key for key in plain if plain[key] != refined[key]} == {"name", "adversarial"}
    for part in ("ce", "ce_dice", "adv"):  # recipes for `trident compare`: B0 and B2 differ in the model only
        small, large = (recipes[f"{size}_{part}"].model_dump() for size in ("b0", "b2"))
        assert {key for key in small if small[key] != large[key]} == {"name", "model"}
    models = {name: recipe.model for name, recipe in recipes.items()}
    assert {name: model.encoder or model.variant for name, model in models.items()} == {
        "demo": "b0", "b0_ce": "b0", "b0_ce_dice": "b0", "b0_adv": "b0", "b2_ce": "b2", "b2_ce_dice": "b2",
        "b2_adv": "b2", "b4_ce_dice": "b4", "b4_adv": "b4", "b5_ce_dice": "b5", "b5_adv": "b5",
        "coco_b2": "b2", "b2_from_coco": "b2", "upernet_convnext": "tu-convnext_tiny",
        "deeplabv3plus_r50": "resnet50", "unet_r34": "resnet34", "dpt_vit": "tu-vit_small_patch16_224",
        "dpt_dinov2_s": "tu-vit_small_patch14_dinov2", "dpt_dinov2_b": "tu-vit_base_patch14_dinov2",
        "lite0_photos": "tu-tf_efficientnet_lite0", "lite0_voc": "tu-tf_efficientnet_lite0",
        "lite2_voc": "tu-tf_efficientnet_lite2",
    }  # fmt: skip
    coco = recipes["coco_b2"]
    assert recipes["b2_from_coco"].model.weights == f"{coco.output.dir}/{coco.name}"
    assert recipes["demo"].data.format == "synthetic"


def test_the_stages_of_one_recipe_are_the_recipes_of_their_own() -> None:
    for stage, own in zip(load_stages(OF_STAGES), ("coco_b2", "b2_ce_dice", "b2_adv"), strict=True):
        found = {change.key for change in changes(load_recipe(ROOT / f"recipes/{own}.yaml"), stage)}
        assert found - {"name", "model.weights"} <= {
            *("train.steps", "adversarial.start", "adversarial.ramp")
        }


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_to_yaml_is_read_back_as_an_equal_recipe(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path, ["output.dir='no'", "data.workers=2", "optimizer.lr=1e-02"])
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    (tmp_path / "recipe.yaml").write_text(recipe.in_steps(123).to_yaml())
    assert load_recipe(tmp_path / "recipe.yaml") == recipe.in_steps(123)


def test_the_schema_in_the_repository_is_that_of_the_models() -> None:
    stored = json.loads((ROOT / "recipes" / "recipe.schema.json").read_text())
    remedy = "out of date; type: python -m engine.recipe > recipes/recipe.schema.json"
    assert stored == recipe_schema(), remedy


def test_the_reference_page_is_that_of_the_declarations() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text()
    assert page == reference_page(recipe_schema()), "type: python -m engine.recipe reference > docs/recipe.md"
    assert "| `label_smoothing` | number from 0 to below 1 | `0.0` |" in page
    assert "| `thresh` | number from 0 to below 1 | `0.7` |" in page
    assert (
        "| `batch` | `auto` or whole number >= 1 | `16` | images per update, over all processes; auto:"
        in page
    )


def test_the_schema_has_what_editors_need() -> None:
    schema = recipe_schema()
    assert set(schema["properties"]) == {"base", "stages", *Recipe.model_fields}
    assert "required" not in schema
    for name, section in schema["$defs"].items():
        assert section["additionalProperties"] is (name == "Logger"), name  # whose options its class declares
        assert all("description" in key or key.get("const") for key in section["properties"].values()), name
    assert schema["$defs"]["Log"]["properties"]["features"]["minimum"] == 0
