"""Every message that says what to type has a case in a file next to this one, or a reason in ELSEWHERE."""

import re

from tests.engine.remedies import test_data, test_doctor, test_prepare, test_recipe, test_runs
from tests.engine.remedies.collecting import FILLED_IN, ROOT, messages, overrides_in
from tests.engine.remedies.elsewhere import ELSEWHERE

CASES = [
    case for module in (test_data, test_doctor, test_prepare, test_recipe, test_runs) for case in module.CASES
]


def is_for_typing(text: str) -> bool:
    """Whether a text is a sentence with a command or a recipe line; test_commands.py checks lines alone."""
    is_a_line = re.fullmatch(r"\s*[a-z_.]+=\S*", text)
    has_command = FILLED_IN.search(text) or re.search(r"\btrident [a-z_]+ |pip install|python -[mc]", text)
    return "examples:" not in text and not is_a_line and bool(overrides_in(text) or has_command)


def test_every_message_with_something_to_type_has_a_case() -> None:
    texts = [(file, text) for file, own in messages().items() for text in own if is_for_typing(text)]
    known = [*(case.says for case in CASES), *(says for group in ELSEWHERE.values() for says in group)]
    lacking = [(file, text) for file, text in texts if not any(says in text for says in known)]
    assert lacking == [], "Add a case to CASES, or say in ELSEWHERE why there is none."
    every = [text for own in messages().values() for text in own]
    stale = [says for says in known if not any(says in text for text in every)]
    assert stale == [], "No message in the code holds these."


def test_the_tests_that_are_named_exist() -> None:
    named = [place for reason in ELSEWHERE for place in re.findall(r"tests/[\w/]+\.py(?:::\w+)?", reason)]
    assert len(named) > 5
    for place in named:
        file, _, test = place.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text() if test else (ROOT / file).is_file(), place
