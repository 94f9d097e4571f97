"""Messages with something to type: what provokes each, and whether what is typed next works."""

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from engine.command import main
from tests.engine.remedies.collecting import GAP, OVERRIDE, messages, overrides_in
from tests.engine.remedies.sandbox import voc

RUN = "run r.yaml --dry-run"
OWN = "run f.yaml --dry-run"
BLANKS = {
    **dict.fromkeys(("its folder", "the folder of your data", "your VOC2012 folder"), "voc"),
    "recipe": "r.yaml",
    "new folder": "mended",
    "another name": "b",
    "a new folder": "new",
    "a split of other images": "val",
}


@dataclass(frozen=True)
class Case:
    """A message, what provokes it, and what is typed with its remedies.

    says: a part of the message as it is in the code, without what is filled in there. command: of `trident`.
    draw: makes the input, next to the recipes r.yaml and f.yaml. add: flags of the message that are typed.
    more: recipe lines that the remedy needs besides. ignore: keys in the message that are not for typing.
    drop: words of the command that are not typed again. blanks: texts for those in angle brackets. then: the
    command that gets the recipe lines, if it is another one.
    """

    says: str
    command: str
    draw: Callable[[], object] = voc
    add: tuple[str, ...] = ()
    more: str = ""
    ignore: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    blanks: dict[str, str] = field(default_factory=dict)
    then: str = ""
    exit_code: int = 0


def every(cases: list[Case]) -> pytest.MarkDecorator:
    """A test for each case, called by what the message says."""
    return pytest.mark.parametrize("case", cases, ids=[case.says[:50] for case in cases])


def require_remedies_work(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """Provoke the message, type what it says, and compare the exit codes."""
    case.draw()
    argv = shlex.split(case.command)
    capsys.readouterr()
    main(argv)
    message = message_in("".join(capsys.readouterr()), case.says)
    lines = [*typed_after(message, case, argv)]
    assert lines, f"nothing to type in: {message}"
    for words in lines:
        exit_code = main(words)
        printed = "".join(capsys.readouterr())
        assert exit_code == case.exit_code, f"trident {shlex.join(words)}\n{printed[-1000:]}"


def message_in(printed: str, says: str) -> str:
    """The part of what was printed that is a text in the code."""
    texts = [text for texts in messages().values() for text in texts if says in text]
    for text in texts:
        parts = text.lstrip(GAP).rstrip(".").split(GAP)
        pattern = ".*?".join(map(re.escape, parts)) + r"[^\n│]*" * (parts[-1] == "")
        if found := re.search(pattern, printed, re.DOTALL):
            return found[0]
    raise AssertionError(f"{texts} is not in:\n{printed}")


def typed_after(message: str, case: Case, argv: list[str]) -> Iterator[list[str]]:
    """The command lines that a message leads to: its commands, or the same command with its recipe lines.

    Recipe lines with a blank between them are typed together, others are alternatives.
    """
    for blank, text in (BLANKS | case.blanks).items():
        message = message.replace(f"<{blank}>", text)
    argv = [word for word in shlex.split(case.then) or argv if word not in case.drop]
    more = shlex.split(case.more)
    for flag in case.add:
        assert flag in message
        yield [*argv, flag, *more]
    command = re.compile(r"\btrident ([a-z_]+(?: [^\s,;]+)*?)(?=[.,;:]? [A-Z(]|[,;]|\.?$|\n)")
    for text in command.findall(message):
        if not text.startswith(case.ignore or "?"):
            yield [*shlex.split(text.rstrip(".")), *more]
    for group in re.finditer(rf"{OVERRIDE.pattern}(?: {OVERRIDE.pattern})*", command.sub("", message)):
        lines = [line for line in overrides_in(group[0]) if line not in argv and line[-1] != "="]
        assert all(" " not in line or f"'{line}'" in message for line in lines), "a shell would split it"
        if lines and not lines[0].startswith(case.ignore or "?"):
            yield [*argv, *lines, *more]
