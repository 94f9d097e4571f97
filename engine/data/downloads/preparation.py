"""The folder for a public data set: checks it and its disk space, downloads and unpacks archives.

Archives are kept in `<root>/archives`, so that one can also be placed there by hand.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from engine.data.downloads.download import Remote, Track, download, require_space
from engine.data.downloads.unpack import Place, unpack
from engine.data.sample import DataError


@dataclass(frozen=True)
class Preparation:
    """Target folder, source, and how to report.

    Attributes:
        root: the folder of the data set, `data.root` of a recipe.
        track: shows the progress of a long task.
        say: prints a line.
        mirror: a URL below which all archives are, used instead of their own URLs.
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
                    f"--mirror {self.mirror} is not an http:// or https:// URL. Type the one below which the "
                    "archives have their own names."
                )

    def archive(self, remote: Remote) -> Path:
        """The path of an archive, downloaded or placed by hand."""
        return self.root / "archives" / remote.name

    def begin(self, own: Collection[str], remotes: Collection[Remote], what: str) -> None:
        """Check before any download. `own`: the folders of this data set; `remotes`: what is still missing.

        Raises:
            DataError: `root` holds something else, or its disk has too little space.
        """
        root = self.root
        if root.is_dir():
            names = {path.name for path in root.iterdir()}
            if names and not names & {*own, "archives"}:
                raise DataError(
                    f"{root} holds other files ({', '.join(sorted(names)[:3])}), and {what} needs its own "
                    f"folder: {', '.join(own)} go directly into it. Name such a folder with --root."
                )
        root.mkdir(parents=True, exist_ok=True)
        # Unpacked, an archive takes about as much space again, and it is kept.
        expected = sum((remote.size or 0) * (1 if self.archive(remote).exists() else 2) for remote in remotes)
        started = sum(
            part.stat().st_size
            for remote in remotes
            if (part := self.archive(remote).with_name(f"{remote.name}.part")).exists()
        )
        require_space(root, max(0, expected - started), what)

    def fetch(self, remote: Remote) -> Path:
        """The archive, downloaded if missing; raises what `download` raises."""
        path = self.archive(remote)
        download(remote, path, self.track, self.mirror)
        return path

    def bring(self, remote: Remote, place: Place) -> Path:
        """Download an archive and unpack what `place` selects; raises what `download` and `unpack` raise."""
        path = self.fetch(remote)
        unpack(path, self.root, place, self.track)
        return path

    def end(self) -> None:
        """Print the size of the archives, which are no longer needed."""
        archives = self.root / "archives"
        if archives.is_dir():
            size = sum(path.stat().st_size for path in archives.iterdir())
            self.say(f"The archives take {size / 1e9:.1f} GB and are no longer needed: {archives}")
