"""Downloads from a server that works, stops half-way, sends wrong headers, or does not exist."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data.downloads import download as module
from engine.data.downloads.download import ATTEMPTS, DownloadError, Remote, download
from engine.data.sample import DataError

BODY = bytes(range(256)) * 2000  # half a MB
SIZE = len(BODY)
SHA = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


class Watch:
    """A `track` that keeps its calls."""

    def __init__(self, stop_after: int | None = None):
        self.calls: list[tuple[str, int, int | None]] = []
        self.stop_after = stop_after

    @contextmanager
    def __call__(self, what: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
        def progress(done: int, total: int | None) -> None:
            self.calls.append((what, done, total))
            if self.stop_after is not None and done >= self.stop_after:
                raise KeyboardInterrupt

        yield progress


@pytest.fixture
def remote(loopback) -> Remote:
    """BODY under a name on the server, as a `Remote` with its published size and checksum."""
    loopback.files["a.tar"] = BODY
    return Remote(f"{loopback.url}/files/a.tar", SIZE, SHA)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "a.tar"


def leftovers(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.glob("*") if p != path)


def test_the_bytes_arrive_and_the_progress_is_shown(loopback, remote: Remote, path: Path) -> None:
    watch = Watch()
    download(remote, path, watch)
    assert path.read_bytes() == BODY
    assert leftovers(path) == []
    for what in ("download a.tar", "check a.tar"):
        done = [call[1] for call in watch.calls if call[0] == what]
        assert done == sorted(done) and done[-1] == SIZE
    assert {call[2] for call in watch.calls} == {SIZE}


def test_a_mirror_replaces_the_original_server(loopback, remote: Remote, path: Path) -> None:
    away = replace(remote, url="http://127.0.0.1:9/nowhere/a.tar")
    download(away, path, Watch(), mirror=f"{loopback.url}/mine/")
    assert path.read_bytes() == BODY


def test_resumes_where_the_connection_broke(loopback, good, remote: Remote, path: Path) -> None:
    loopback.plan["a.tar"] = [replace(good, cut=100_000), replace(good, cut=7), good]
    download(remote, path, Watch())
    assert path.read_bytes() == BODY
    assert loopback.ranges() == [None, "bytes=100000-", "bytes=100007-"]
    assert loopback.requests[1][1]["If-Range"] == '"v1"'
    assert leftovers(path) == []


def test_starts_again_where_the_server_cannot_resume(loopback, good, remote: Remote, path: Path) -> None:
    poor = replace(good, ranges=False, etag=None)
    loopback.plan["a.tar"] = [replace(poor, cut=100_000), replace(poor, cut=200_000), poor]
    download(remote, path, Watch())
    assert path.read_bytes() == BODY
    assert len(loopback.requests) == 3


def test_two_versions_are_never_mixed(loopback, good, remote: Remote, path: Path) -> None:
    newer = BODY[::-1]
    loopback.plan["a.tar"] = [replace(good, cut=100_000), replace(good, body=newer, etag='"v2"')]
    download(replace(remote, size=None, checksum=None), path, Watch())
    assert path.read_bytes() == newer


def test_starts_again_where_the_server_sends_neither_etag_nor_date(
    loopback, good, remote: Remote, path: Path
) -> None:
    loopback.plan["a.tar"] = [replace(good, cut=100_000, etag=None), replace(good, etag=None)]
    download(replace(remote, checksum=None), path, Watch())
    assert path.read_bytes() == BODY
    assert loopback.ranges() == [None, None]


def test_a_weak_etag_is_ignored(loopback, good, remote: Remote, path: Path) -> None:
    loopback.plan["a.tar"] = [replace(good, cut=100_000, etag='W/"v1"'), replace(good, etag='W/"v1"')]
    download(replace(remote, checksum=None), path, Watch())
    assert path.read_bytes() == BODY
    assert "If-Range" not in loopback.requests[1][1]


@pytest.mark.parametrize("ranges", [True, False])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, SIZE - 1), max_size=6))
def test_any_sequence_of_interruptions_ends_with_the_whole_file(
    loopback, good, tmp_path_factory, ranges: bool, cuts: list[int]
) -> None:
    loopback.files["a.tar"] = BODY
    reply = replace(good, ranges=ranges)
    plan = [part for cut in sorted(cuts) for part in (replace(reply, cut=cut), replace(reply, status=503))]
    loopback.plan["a.tar"] = [*plan, reply]
    path = tmp_path_factory.mktemp("cuts") / "a.tar"
    for _ in range(len(plan) + 1):  # each call gives up after ATTEMPTS, and keeps what it has
        try:
            download(Remote(f"{loopback.url}/a.tar", SIZE, SHA), path, Watch())
            break
        except DownloadError:
            assert not path.exists()
    assert path.read_bytes() == BODY
    assert leftovers(path) == []


def test_gives_up_after_several_attempts_without_new_bytes(
    loopback, good, remote: Remote, path: Path
) -> None:
    loopback.plan["a.tar"] = [replace(good, cut=100_000, ranges=False)]
    with pytest.raises(DownloadError, match=r"ended after 100,000 of 512,000 bytes, 5 times in a row"):
        download(remote, path, Watch())
    assert len(loopback.requests) == ATTEMPTS
    assert path.with_name("a.tar.part").stat().st_size == 100_000
    assert not path.exists()


def test_a_content_length_that_is_too_large(loopback, good, remote: Remote, path: Path) -> None:
    loopback.plan["a.tar"] = [replace(good, claim=10)]
    with pytest.raises(
        DownloadError, match="offers a file of 512,010 bytes, but the published one has 512,000"
    ):
        download(remote, path, Watch())
    assert len(loopback.requests) == 1  # before 20 GB of another file are downloaded
    loopback.plan["a.tar"] = [replace(good, claim=10, ranges=False)]
    with pytest.raises(DownloadError, match="ended after 512,000 of 512,010 bytes, 5 times in a row"):
        download(replace(remote, size=None), path, Watch())
    assert len(loopback.requests) == 1 + ATTEMPTS
    assert not path.exists()


def test_a_content_length_that_a_later_response_corrects(loopback, good, remote: Remote, path: Path) -> None:
    loopback.plan["a.tar"] = [replace(good, claim=10), good]
    download(replace(remote, size=None), path, Watch())
    assert path.read_bytes() == BODY
    assert loopback.ranges() == [None, f"bytes={SIZE}-"]


def test_a_content_length_that_is_too_small(loopback, good, remote: Remote, path: Path) -> None:
    loopback.plan["a.tar"] = [replace(good, claim=-10)]
    with pytest.raises(DownloadError, match="offers a file of 511,990 bytes"):
        download(remote, path, Watch())
    with pytest.raises(DownloadError, match="sent other bytes than the published ones: SHA256 .*, not "):
        download(replace(remote, size=None), path, Watch())
    assert not path.exists() and leftovers(path) == []


def test_no_content_length(loopback, good, remote: Remote, path: Path) -> None:
    loopback.plan["a.tar"] = [replace(good, claim=None, cut=100_000), replace(good, claim=None)]
    download(remote, path, Watch())  # the published size shows that the first response was truncated
    assert path.read_bytes() == BODY
    assert len(loopback.requests) == 2


def test_wrong_bytes_of_the_right_length_are_an_error(loopback, good, remote: Remote, path: Path) -> None:
    other = b"x" * SIZE
    loopback.plan["a.tar"] = [replace(good, body=other)]
    with pytest.raises(DownloadError) as caught:
        download(remote, path, Watch())
    assert hashlib.sha256(other).hexdigest() in str(caught.value) and SHA[7:] in str(caught.value)
    assert str(path) in str(caught.value) and "--mirror" in str(caught.value)
    assert caught.value.exit_code == 1
    assert not path.exists() and leftovers(path) == []


def test_a_wrong_part_file_is_discarded(loopback, remote: Remote, path: Path) -> None:
    path.parent.mkdir()
    path.with_name("a.tar.part").write_bytes(b"x" * 1000)
    download(remote, path, Watch())
    assert path.read_bytes() == BODY
    assert loopback.ranges() == ["bytes=1000-", None]


@pytest.mark.parametrize("shift", [-5, 5])
def test_a_server_that_sends_another_range_is_an_error(
    loopback, good, remote: Remote, path: Path, shift: int
) -> None:
    loopback.plan["a.tar"] = [replace(good, cut=100_000), replace(good, shift=shift), good]
    download(remote, path, Watch())
    assert path.read_bytes() == BODY
    assert loopback.ranges() == [None, "bytes=100000-", None]


def test_not_found_is_not_retried(loopback, good, remote: Remote, path: Path) -> None:
    loopback.plan["a.tar"] = [replace(good, status=404)]
    with pytest.raises(DownloadError, match=r"a\.tar answers HTTP 404 Not Found\. .*--mirror URL, or place"):
        download(remote, path, Watch())
    assert len(loopback.requests) == 1


def test_a_server_error_is_retried(loopback, good, remote: Remote, path: Path) -> None:
    trouble = replace(good, status=500)
    loopback.plan["a.tar"] = [trouble, replace(good, status=503), good]
    download(remote, path, Watch())
    assert path.read_bytes() == BODY
    path.unlink()
    loopback.plan["a.tar"] = [trouble]
    loopback.requests.clear()
    with pytest.raises(DownloadError, match="HTTP 500 Internal Server Error, 5 times in a row"):
        download(remote, path, Watch())
    assert len(loopback.requests) == ATTEMPTS


def test_a_server_that_stops_sending_is_retried(
    loopback, good, remote: Remote, path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.05)
    loopback.plan["a.tar"] = [replace(good, slow_s=0.3), good]
    download(remote, path, Watch())
    assert path.read_bytes() == BODY
    assert loopback.ranges() == [None, "bytes=65536-"]


def test_no_server(loopback, path: Path) -> None:
    with pytest.raises(DownloadError, match="refused"):
        download(Remote("http://127.0.0.1:9/a.tar"), path, Watch())
    assert not path.exists()


def test_follows_a_redirect_with_its_range(loopback, good, remote: Remote, path: Path) -> None:
    moved = replace(good, status=302, location=f"{loopback.url}/elsewhere/b.tar")
    loopback.files["b.tar"] = BODY
    loopback.plan["a.tar"] = [moved]
    loopback.plan["b.tar"] = [replace(good, cut=100_000), good]
    download(remote, path, Watch())
    assert path.read_bytes() == BODY
    assert loopback.ranges() == [None, None, "bytes=100000-", "bytes=100000-"]


@pytest.mark.parametrize("where", ["file:///etc/passwd", "{url}/a.tar"])
def test_a_redirect_to_a_file_or_in_a_circle_is_refused(
    loopback, good, remote: Remote, path: Path, where: str
) -> None:
    loopback.plan["a.tar"] = [replace(good, status=302, location=where.format(url=loopback.url))]
    with pytest.raises(DownloadError, match="HTTP 302"):
        download(remote, path, Watch())
    assert not path.exists()


def test_an_existing_file_is_checked_and_not_downloaded(loopback, remote: Remote, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(BODY)
    download(remote, path, Watch())
    path.write_bytes(BODY[:-1])
    with pytest.raises(DataError, match=r"a\.tar is not the published a\.tar: 511,999 bytes, not 512,000"):
        download(remote, path, Watch())
    path.write_bytes(BODY[:-1] + b"x")
    with pytest.raises(DataError, match="SHA256"):
        download(remote, path, Watch())
    assert path.read_bytes()[-1:] == b"x"  # it may be a file of the user
    assert loopback.requests == []


def test_a_complete_part_file_needs_no_server(loopback, remote: Remote, path: Path) -> None:
    path.parent.mkdir()
    path.with_name("a.tar.part").write_bytes(BODY)
    download(remote, path, Watch())
    assert path.read_bytes() == BODY
    assert loopback.requests == []


def test_a_complete_part_file_of_unknown_size_is_confirmed_by_the_server(
    loopback, remote: Remote, path: Path
) -> None:
    path.parent.mkdir()
    path.with_name("a.tar.part").write_bytes(BODY)
    path.with_name("a.tar.part.tag").write_text('"v1"')
    download(Remote(remote.url), path, Watch())
    assert path.read_bytes() == BODY
    assert loopback.ranges() == [f"bytes={SIZE}-"]


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_part_file_that_is_too_long_is_discarded(
    loopback, remote: Remote, path: Path, size: int | None
) -> None:
    path.parent.mkdir()
    path.with_name("a.tar.part").write_bytes(BODY + b"more")
    download(replace(remote, size=size), path, Watch())
    assert path.read_bytes() == BODY
    assert loopback.ranges()[-1] is None


def test_an_interrupt_keeps_the_bytes_received(loopback, good, remote: Remote, path: Path) -> None:
    loopback.plan["a.tar"] = [replace(good, slow_s=0.01)]
    with pytest.raises(KeyboardInterrupt):
        download(remote, path, Watch(stop_after=SIZE // 3))
    have = path.with_name("a.tar.part").stat().st_size
    assert SIZE // 3 <= have < SIZE
    download(remote, path, Watch())
    assert path.read_bytes() == BODY
    assert loopback.ranges() == [None, f"bytes={have}-"]


def test_a_full_disk_is_reported_before_the_download(
    loopback, remote: Remote, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = module.shutil.disk_usage(path.parents[1])
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=SIZE - 1))
    with pytest.raises(DataError, match=r"rest of a\.tar needs 0\.0 GB .* --root"):
        download(remote, path, Watch())
    assert path.with_name("a.tar.part").stat().st_size == 0


def test_an_empty_file(loopback, path: Path) -> None:
    loopback.files["a.tar"] = b""
    download(Remote(f"{loopback.url}/a.tar"), path, Watch())
    assert path.read_bytes() == b""
