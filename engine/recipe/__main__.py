"""`python -m engine.recipe` prints the JSON schema of a recipe, for recipes/recipe.schema.json."""

import json

from engine.recipe import recipe_schema

print(json.dumps(recipe_schema(), indent=2))
