"""The standard output of a command, which may end, and may not show every character."""

import errno
import os
import sys
from collections.abc import Callable


def printable(text: str, encoding: str | None) -> str:
    r"""With \udce9 and the like in place of what the output cannot show, such as bytes of a name.

    Args:
        encoding: of the output; None for one of text, such as io.StringIO.
    """
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class Output:
    """The standard output, until its reader is gone: a closed pipe or terminal ends the output, not a run."""

    def __init__(self) -> None:
        self._stream = sys.stdout  # while a progress bar is shown, sys.stdout is rich's, which prints to this
        self.encoding = self._stream.encoding

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(printable(text, self.encoding)))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            if error.errno == errno.EIO and sys.__stderr__:  # the terminal of the messages is gone too
                os.dup2(nowhere, sys.__stderr__.fileno())
