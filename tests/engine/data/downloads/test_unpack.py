"""Archives, valid and malicious: what is written, and that nothing is written of one that is refused."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from engine.data.downloads import unpack as module
from engine.data.downloads.unpack import contents, read_members, unpack
from engine.data.sample import DataError

FILES = {"set/a.txt": b"first", "set/deep/b.bin": bytes(range(256)), "set/empty": b""}


def track(what: str, unit: str):
    return nullcontext(lambda done, total: None)


def everything(name: str) -> str:
    return name


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for header, content in members:
            archive.addfile(header, io.BytesIO(content))
    return path


def file_in_tar(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    return header, content


def other_in_tar(name: str, type: bytes, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = type, link
    return header, b""


def zip_of(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def in_zip(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo()
    info.filename = name  # set afterwards: the constructor of ZipInfo normalises it
    info.external_attr = mode << 16
    return info


@pytest.fixture(params=["tar", "tar.gz", "zip"])
def honest(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"set.{request.param}"
    if request.param == "zip":
        return zip_of(path, ("set/", b""), *FILES.items())
    members = [file_in_tar(f"./{name}", content) for name, content in FILES.items()]
    folder = other_in_tar("./set", tarfile.DIRTYPE)
    return tar_of(path, folder, *members, mode="w:gz" if request.param == "tar.gz" else "w")


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_all_files_are_written(honest: Path, tmp_path: Path) -> None:
    assert unpack(honest, tmp_path / "out", everything, track) == 3
    assert tree(tmp_path / "out") == FILES


def test_only_the_selected_files_are_written_and_to_the_given_paths(honest: Path, tmp_path: Path) -> None:
    place = {"set/a.txt": "elsewhere/c.txt"}.get
    assert unpack(honest, tmp_path / "out", place, track) == 1
    assert tree(tmp_path / "out") == {"elsewhere/c.txt": b"first"}
    with pytest.raises(DataError, match="holds none of the expected files"):
        unpack(honest, tmp_path / "out", lambda name: None, track)


def test_a_second_time_writes_nothing(honest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    unpack(honest, out, everything, track)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert unpack(honest, out, everything, track) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times
    (out / "set/a.txt").unlink()
    assert unpack(honest, out, everything, track) == 1
    assert tree(out) == FILES


def test_an_interrupt_leaves_only_complete_files(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    copy = module.shutil.copyfileobj

    def stop_at_the_second(source, target, length: int) -> None:
        if "b.bin" in target.name:
            target.write(b"half")
            raise KeyboardInterrupt
        copy(source, target, length)

    monkeypatch.setattr(module.shutil, "copyfileobj", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        unpack(honest, out, everything, track)
    assert tree(out) == {"set/a.txt": b"first"}
    monkeypatch.undo()
    assert unpack(honest, out, everything, track) == 2
    assert tree(out) == FILES


def test_a_file_of_the_user_is_not_overwritten(honest: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out/set/deep/b.bin"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"another size than in set\..*deep/b\.bin"):
        unpack(honest, tmp_path / "out", everything, track)
    assert tree(tmp_path / "out") == {"set/deep/b.bin": b"mine"}


def test_contents_are_in_the_order_of_the_archive(honest: Path) -> None:
    wanted = {"set/empty", "set/a.txt"}
    read = [(member.name, member.size, content.read()) for member, content in contents(honest, wanted)]
    assert read == [("set/a.txt", 5, b"first"), ("set/empty", 0, b"")]
    assert [(m.name, m.size) for m in read_members(honest, track)] == [(n, len(c)) for n, c in FILES.items()]


def test_a_full_disk_is_reported_before_anything_is_written(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.data.downloads import download

    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=200))
    with pytest.raises(DataError, match=r"Unpacking set\..* needs"):
        unpack(honest, tmp_path / "out", everything, track)
    assert not (tmp_path / "out").exists()


HOSTILE_TARS = {
    "an absolute path": [file_in_tar("/tmp/evil")],
    "a path upwards": [file_in_tar("../evil")],
    "a path upwards inside": [file_in_tar("set/../../evil")],
    "a path upwards and back inside": [file_in_tar("set/../../out/evil")],
    "a drive": [file_in_tar("C:evil")],
    "a path of Windows": [file_in_tar("..\\evil")],
    "control characters": [file_in_tar("evil\x1b[2J")],
    "a folder upwards": [other_in_tar("../evil", tarfile.DIRTYPE)],
    "a symlink to an absolute path": [other_in_tar("evil", tarfile.SYMTYPE, "/etc")],
    "a symlink upwards": [other_in_tar("set/evil", tarfile.SYMTYPE, "../../etc")],
    "a hard link to an absolute path": [other_in_tar("evil", tarfile.LNKTYPE, "/etc/passwd")],
    "a hard link upwards": [other_in_tar("set/evil", tarfile.LNKTYPE, "../passwd")],
    "a file below a link": [other_in_tar("evil", tarfile.SYMTYPE, "set"), file_in_tar("evil/passwd")],
    "a character device": [other_in_tar("evil", tarfile.CHRTYPE)],
    "a block device": [other_in_tar("evil", tarfile.BLKTYPE)],
    "a pipe": [other_in_tar("evil", tarfile.FIFOTYPE)],
    "one name twice": [file_in_tar("evil"), file_in_tar("./evil", b"y")],
    "a file that is a folder": [file_in_tar("evil"), file_in_tar("evil/passwd")],
}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("members", HOSTILE_TARS.values(), ids=HOSTILE_TARS)
def test_a_malicious_tar_writes_nothing(members: list, mode: str, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar", file_in_tar("set/fine"), *members, file_in_tar("last"), mode=mode)
    with pytest.raises(
        DataError, match="a.tar is malicious: .*(evil|passwd).*Nothing was unpacked"
    ) as caught:
        unpack(archive, tmp_path / "out", everything, track)
    assert caught.value.exit_code == 2
    assert "\x1b" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


HOSTILE_ZIPS = {
    "an absolute path": [(in_zip("/tmp/evil", 0o100644), b"x")],
    "a path upwards": [(in_zip("set/../../evil", 0o100644), b"x")],
    "a path of Windows": [(in_zip("..\\evil", 0o100644), b"x")],
    "a drive": [(in_zip("C:/evil", 0o100644), b"x")],
    "a symlink": [(in_zip("evil", 0o120777), b"/etc/passwd")],
    "a device": [(in_zip("evil", 0o020666), b"")],
    "a pipe": [(in_zip("evil", 0o010666), b"")],
    "one name twice": [(in_zip("evil", 0o100644), b"x"), (in_zip("./evil", 0o100644), b"y")],
    "a file that is a folder": [("evil", b"x"), ("evil/passwd", b"x")],
}


@pytest.mark.parametrize("members", HOSTILE_ZIPS.values(), ids=HOSTILE_ZIPS)
def test_a_malicious_zip_writes_nothing(members: list, tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", ("set/fine", b"x"), *members, ("last", b"x"))
    with pytest.raises(DataError, match="a.zip is malicious: .*(evil|passwd).*Nothing was unpacked"):
        unpack(archive, tmp_path / "out", everything, track)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", ("secret", b"x"))
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag, in the central directory
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"'secret' \(encrypted\)"):
        unpack(archive, tmp_path / "out", everything, track)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_decompression_bomb_is_refused_by_its_claimed_size(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALWAYS_ALLOWED_BYTES", 1000)
    zeros = bytes(4 << 20)
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        zip_of(archive, ("fine", b"x"), ("bomb", zeros))
    else:
        tar_of(archive, file_in_tar("fine"), file_in_tar("bomb", zeros), mode="w:gz")
    with pytest.raises(DataError, match=r"malicious: up to 'bomb' its members claim .* more than 20 times"):
        unpack(archive, tmp_path / "out", everything, track)
    assert not (tmp_path / "out").exists()


def test_a_decompression_bomb_of_many_small_files_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALWAYS_ALLOWED_BYTES", 1000)
    archive = zip_of(tmp_path / "a.zip", *((f"f{number}", bytes(100_000)) for number in range(50)))
    with pytest.raises(DataError, match="malicious: up to 'f"):
        unpack(archive, tmp_path / "out", everything, track)


def test_a_zip_with_a_claimed_size_that_is_too_small_is_refused(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", ("evil", b"x" * 5000))
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02") + 24  # uncompressed size, in the central directory
    data[at : at + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        unpack(archive, tmp_path / "out", everything, track)
    assert tree(tmp_path / "out") == {}


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    header, _ = file_in_tar("evil")
    header.size = -512
    block = header.tobuf(tarfile.GNU_FORMAT)
    archive = tmp_path / "a.tar"
    archive.write_bytes(block + bytes(10_240))
    with pytest.raises(DataError, match="malicious|damaged"):
        read_members(archive, track)


def test_a_link_to_the_inside_is_not_written(tmp_path: Path) -> None:
    links = [other_in_tar("s", tarfile.SYMTYPE, "set"), other_in_tar("set/h", tarfile.LNKTYPE, "set/a")]
    archive = tar_of(tmp_path / "a.tar", file_in_tar("set/a"), *links)
    assert unpack(archive, tmp_path / "out", everything, track) == 1
    assert tree(tmp_path / "out") == {"set/a": b"x"}


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "no archive": lambda data: b"<html>not found</html>" * 100,
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
}


@pytest.mark.parametrize("spoil", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_damaged_archive_is_named(kind: str, spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    archive = tmp_path / f"a.{kind}"
    content = bytes(range(256)) * 400
    if kind == "zip":
        zip_of(archive, ("a", content))
    else:
        tar_of(archive, file_in_tar("a", content), mode="w" if kind == "tar" else "w:gz")
    archive.write_bytes(spoil(archive.read_bytes()))
    with pytest.raises(DataError, match=rf"a\.{kind} is damaged, or not a tar or zip archive"):
        unpack(archive, tmp_path / "out", everything, track)
    assert not (tmp_path / "out/a").exists()


def test_a_changed_byte_in_a_zip_is_found_by_its_crc(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:  # stored, as photos are
        opened.writestr("good", b"g" * 1000)
        opened.writestr("bad", b"b" * 1000)
    data = archive.read_bytes()
    archive.write_bytes(data.replace(b"b" * 500, b"b" * 499 + b"c", 1))
    with pytest.raises(DataError, match="damaged"):
        unpack(archive, tmp_path / "out", everything, track)
    assert tree(tmp_path / "out") == {"good": b"g" * 1000}


LONG = {
    "a name": "set/" + "a" * 300 + ".jpg",
    "a name of several bytes a letter": "set/" + "\u00e4" * 130 + ".jpg",
    "a name that has no room for .part": "set/" + "a" * 248 + ".jpg",
    "a folder": "a" * 256 + "/b.jpg",
    "a path": "/".join(["a" * 200] * 21),
}


@pytest.mark.parametrize("name", LONG.values(), ids=LONG)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_name_that_no_file_can_have_is_refused_before_anything_is_written(
    name: str, kind: str, tmp_path: Path
) -> None:
    path, short = tmp_path / f"set.{kind}", "set/short.jpg"
    if kind == "zip":
        zip_of(path, (short, b"x"), (name, b"x"))
    else:
        tar_of(path, file_in_tar(short), file_in_tar(name))
    with pytest.raises(DataError, match="too long.*Nothing was unpacked.*shorter"):
        unpack(path, tmp_path / "out", everything, track)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_the_longest_name_that_a_file_can_have_while_it_is_written_is_written(
    kind: str, tmp_path: Path
) -> None:
    path, name = tmp_path / f"set.{kind}", "a" * 250
    if kind == "zip":
        zip_of(path, (name, b"x"))
    else:
        tar_of(path, file_in_tar(name))
    assert unpack(path, tmp_path / "out", everything, track) == 1
    assert tree(tmp_path / "out") == {name: b"x"}
