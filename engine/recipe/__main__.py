"""`python -m engine.recipe` prints the JSON schema of a recipe; with `reference`, the page of all keys."""

import json
import sys

from engine.recipe import recipe_schema
from engine.recipe.reference import reference_page

schema = recipe_schema()
print(reference_page(schema).rstrip() if sys.argv[1:] == ["reference"] else json.dumps(schema, indent=2))
