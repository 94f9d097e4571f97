"""Imports go down only: commands -> training -> reporting -> diagnosis -> scoring -> parts."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("engine", "models", "losses", "trident")

BELOW = (
    "engine",
    "engine.wording",
    "engine.going_on",
    "engine.options",
    "engine.components",
    "engine.data",
    "engine.recipe",
    "engine.run_folder",
    "models",
    "losses",
)
DECLARATIONS = (  # of options; they import no torch, and the recipe is put together from them
    *(
        "engine.wording",
        "engine.options",
        "engine.components",
        "engine.data.bands",
        "engine.data.options",
        "engine.data.formats",
        "engine.training.options",
    ),
    *("engine.training.schedule", "engine.scoring.options", "losses.terms", "models.architectures"),
    "engine.reporting.loggers",
)
# layer -> the layers and modules it may import besides itself; bare `engine` holds the version and `load`
MAY_IMPORT = {
    "engine": ("engine.scoring",),  # inside `load` only: the last test here checks that torch is not imported
    "engine.wording": (),
    "engine.going_on": (),
    "engine.options": ("engine.wording",),
    "engine.components": ("engine.wording", "engine.options"),
    "models": ("engine.wording", "engine.components", "engine.options", "engine.run_folder"),
    "losses": ("engine.wording", "engine.components", "engine.options"),
    "engine.data": ("engine.wording", "engine.options", "engine.components", "models.class_names"),
    "engine.elsewhere": (),
    "engine.exit_codes": (),
    "engine.output": (),
    "engine.recipe": (*DECLARATIONS, "engine.elsewhere", "engine.going_on"),
    "engine.run_folder": ("engine.wording", "engine.going_on", "engine.options"),
    "engine.scoring": BELOW,
    "engine.diagnosis": (*BELOW, "engine.scoring"),
    "engine.reporting": (*BELOW, "engine.scoring", "engine.diagnosis"),
    "engine.training": (*BELOW, "engine.scoring", "engine.diagnosis", "engine.reporting"),
    "engine.benchmarks": (*BELOW, "engine.scoring", "engine.training.freed_memory"),
    "engine.comparison": (*BELOW, "engine.scoring", "engine.reporting"),
    "engine.exporting": (*BELOW, "engine.scoring", "engine.reporting"),
    "engine.serving": (*BELOW, "engine.scoring", "engine.reporting"),
    "engine.command": (
        "engine",
        "engine.wording",
        "engine.recipe",
        "engine.elsewhere",
        "engine.exit_codes",
        "engine.output",
    ),  # without torch, so that --help is fast
}
COMMAND_MAY_IMPORT = (*MAY_IMPORT,)
MAY_IMPORT["trident"] = COMMAND_MAY_IMPORT  # the Python interface


def layer_of(module: str) -> str:
    """The layer of a module: two names deep; an unlisted engine.<name> is a command."""
    parts = module.split(".")
    if parts[0] != "engine" or len(parts) == 1:
        return parts[0]
    return f"engine.{parts[1]}"


def imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import from the project's own packages, inside functions too."""
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            source = ".".join(filter(None, (start, node.module)))
            folder = root.joinpath(*source.split("."))
            names = [  # `from engine import data` names a module, `from engine import __version__` does not
                f"{source}.{alias.name}"
                if (folder / alias.name).is_dir() or (folder / f"{alias.name}.py").is_file()
                else source
                for alias in node.names
            ]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] in PACKAGES)


def violations(root: Path) -> list[str]:
    """`file:line: layer imports module` for each import that goes up or sideways."""
    found = []
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        layer = layer_of(module)
        allowed = (layer, *MAY_IMPORT.get(layer, COMMAND_MAY_IMPORT))
        found += [
            f"{path.relative_to(root)}:{line}: {layer} imports {name}"
            for line, name in imports(path, root)
            if layer_of(name) not in allowed and name not in allowed
        ]
    return found


def test_imports_go_down_only() -> None:
    assert violations(ROOT) == []


def test_the_rule_finds_every_kind_of_import(tmp_path: Path) -> None:
    files = {
        "losses/dice.py": "import torch\nfrom losses.mixed import x\n\ndef f():\n    import models\n",
        "models/__init__.py": "from engine import data\n",
        "engine/__init__.py": "",
        "engine/data/__init__.py": "from ..training import fit\nfrom models.class_names import VOC\n",
        "engine/data/options.py": "",
        "engine/data/augment.py": "import models.zoo\n",
        "engine/recipe/__init__.py": "from .. import data\nfrom engine.data.options import Data\n",
        "engine/recipe/sections.py": "from engine.recipe import Recipe\nimport engine.training.fit\n",
        "engine/recipe/text.py": "from engine.training.schedule import Schedule\n",
        "engine/scoring/predictor.py": "from engine import __version__\nimport engine.reporting.console\n",
        "engine/training/fit.py": "from engine.scoring import predictor\nfrom engine import run\n",
        "engine/run.py": "from engine.training.fit import fit\nimport engine.command, engine.ensemble\n",
        "engine/ensemble.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert violations(tmp_path) == [
        "engine/data/__init__.py:1: engine.data imports engine.training.fit",
        "engine/data/augment.py:1: engine.data imports models.zoo",
        "engine/recipe/__init__.py:1: engine.recipe imports engine.data",
        "engine/recipe/sections.py:2: engine.recipe imports engine.training.fit",
        "engine/run.py:2: engine.run imports engine.ensemble",
        "engine/scoring/predictor.py:2: engine.scoring imports engine.reporting.console",
        "engine/training/fit.py:2: engine.training imports engine.run",
        "losses/dice.py:5: losses imports models",
        "models/__init__.py:1: models imports engine.data",
    ]


def test_recipes_commands_and_declarations_load_without_torch() -> None:
    modules = "engine.recipe, engine.command, losses.terms, models.architectures, models.class_names"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
