"""A folder that a public data set is brought into: is it fit, is there room, fetch and unpack this archive.

Archives stay in `<root>/archives`, so that one can also be placed there by hand. Knows no data set.
"""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from engine.data.downloads.download import Remote, Track, download, require_space
from engine.data.downloads.unpack import Place, unpack
from engine.data.sample import DataError


@dataclass(frozen=True)
class Preparation:
    """Where to, from where, and whom to tell.

    Attributes:
        root: the folder of the data set, as a recipe names it in `data.root`.
        track: shows the progress of what takes long.
        say: shows a line.
        mirror: a URL below which all archives lie, in place of their homes.
    """

    root: Path
    track: Track
    say: Callable[[str], None]
    mirror: str | None = None

    def __post_init__(self) -> None:
        if self.mirror is not None:
            parts = urlsplit(self.mirror)
            if parts.scheme not in ("http", "https") or not parts.netloc:
                raise DataError(
                    f"--mirror {self.mirror} is no http:// or https:// address. Give the one below which the "
                    "archives lie under their own names."
                )

    def archive(self, remote: Remote) -> Path:
        """Where an archive lies, fetched or placed by hand."""
        return self.root / "archives" / remote.name

    def begin(self, own: Collection[str], remotes: Collection[Remote], what: str) -> None:
        """Before anything is fetched. `own`: the folders of this data set; `remotes`: what is still to come.

        Raises:
            DataError: `root` holds something else or cannot be written, or its disk has not the room.
        """
        root = self.root
        if root.is_dir():
            names = {path.name for path in root.iterdir()}
            if names and not names & {*own, "archives"}:
                raise DataError(
                    f"{root} holds other things ({', '.join(sorted(names)[:3])}), and {what} wants a folder "
                    f"of its own: {', '.join(own)} lie right below it. Name such a folder with --root."
                )
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{root} cannot be made: {error.strerror}. Name another folder with --root."
            ) from error
        if not os.access(root, os.W_OK):
            raise DataError(f"{root} cannot be written to. Name another folder with --root.")
        # About as much comes out of an archive as is in it, and both are there at the end.
        expected = sum((remote.size or 0) * (1 if self.archive(remote).exists() else 2) for remote in remotes)
        started = sum(
            part.stat().st_size
            for remote in remotes
            if (part := self.archive(remote).with_name(f"{remote.name}.part")).exists()
        )
        require_space(root, max(0, expected - started), what)

    def fetch(self, remote: Remote) -> Path:
        """The archive, fetched unless it is there; raises what `download` raises."""
        path = self.archive(remote)
        download(remote, path, self.track, self.mirror)
        return path

    def bring(self, remote: Remote, place: Place) -> Path:
        """Fetch an archive and unpack what `place` wants; raises what `download` and `unpack` raise."""
        path = self.fetch(remote)
        unpack(path, self.root, place, self.track)
        return path

    def end(self) -> None:
        """Say what the archives take, as nothing of them is needed any more."""
        archives = self.root / "archives"
        if archives.is_dir():
            size = sum(path.stat().st_size for path in archives.iterdir())
            self.say(f"The archives take {size / 1e9:.1f} GB and are not needed any more: {archives}")
