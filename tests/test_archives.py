"""An archive from anywhere is unpacked into its folder or refused; nothing outside the folder changes."""

import gzip
import io
import os
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bantamnet.data.archives import extract
from bantamnet.errors import UserError
from small_cifar import tree

MEGABYTE = 1 << 20


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to unpack into, with a canary beside it."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "canary").write_text("alive")
    return tmp_path


def tar_of(path: Path, *members: tarfile.TarInfo | tuple[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tuple):
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
            else:
                tar.addfile(member)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return path


def zip_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def zip_entry(name: str) -> zipfile.ZipInfo:
    """A name as it is; the constructor would tidy some."""
    info = zipfile.ZipInfo("x")
    info.filename = name
    return info


def long_header_bomb(path: Path) -> Path:
    """An extended header that says it has as many bytes as memory."""
    header = special("bomb", tarfile.XHDTYPE)
    header.size = 64 * MEGABYTE
    with gzip.open(path, "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(MEGABYTE))
    return path


def lying_zip(path: Path) -> Path:
    """Says that its file is small, and it is not."""
    zip_of(path, ("bomb", bytes(20 * MEGABYTE)))
    raw = bytearray(path.read_bytes())
    size = (20 * MEGABYTE).to_bytes(4, "little")
    assert raw.count(size) == 2  # in the local and in the central header
    path.write_bytes(bytes(raw).replace(size, (10).to_bytes(4, "little")))
    return path


def test_an_archive_of_the_folder_itself_is_unpacked(place: Path) -> None:
    archive = tar_of(place / "a.tar", special(".", tarfile.DIRTYPE), ("./a/b.bin", b"content"))
    extract(archive, place / "inside")
    assert (place / "inside" / "a" / "b.bin").read_bytes() == b"content"


OUT = "../canary"
ATTACKS: dict[str, Callable[[Path], Path]] = {
    "tar up": lambda p: tar_of(p / "a.tar", (OUT, b"dead")),
    "tar up inside": lambda p: tar_of(p / "a.tar", ("a/../../canary", b"dead")),
    "tar up and back": lambda p: tar_of(p / "a.tar", ("a/../b", b"dead")),
    "tar absolute": lambda p: tar_of(p / "a.tar", (str(p / "canary"), b"dead")),
    "tar backslash": lambda p: tar_of(p / "a.tar", ("..\\canary", b"dead")),
    "tar drive": lambda p: tar_of(p / "a.tar", ("C:/canary", b"dead")),
    "tar symlink": lambda p: tar_of(p / "a.tar", special("link", tarfile.SYMTYPE, OUT), ("link", b"dead")),
    "tar symlink folder": lambda p: tar_of(p / "a.tar", special("link", tarfile.SYMTYPE, ".."), ("link/canary", b"dead")),
    "tar symlink inside": lambda p: tar_of(p / "a.tar", ("a", b"1"), special("link", tarfile.SYMTYPE, "a")),
    "tar hard link": lambda p: tar_of(p / "a.tar", special("link", tarfile.LNKTYPE, OUT), ("link", b"dead")),
    "tar pipe": lambda p: tar_of(p / "a.tar", special("pipe", tarfile.FIFOTYPE)),
    "tar device": lambda p: tar_of(p / "a.tar", special("null", tarfile.CHRTYPE)),
    "tar bomb": lambda p: tar_of(p / "a.tar", ("bomb", bytes(20 * MEGABYTE))),
    "tar bomb of many": lambda p: tar_of(p / "a.tar", *((f"{n}", bytes(2 * MEGABYTE)) for n in range(6))),
    "tar of too many": lambda p: tar_of(p / "a.tar", *((f"{n}", b"") for n in range(60))),
    "tar bomb in a header": lambda p: long_header_bomb(p / "a.tar"),
    "tar xz bomb": lambda p: tar_of(p / "a.tar", ("bomb", bytes(20 * MEGABYTE)), mode="w:xz"),
    "tar bz2 bomb": lambda p: tar_of(p / "a.tar", ("bomb", bytes(20 * MEGABYTE)), mode="w:bz2"),
    "zip up": lambda p: zip_of(p / "a.zip", (OUT, b"dead")),
    "zip up inside": lambda p: zip_of(p / "a.zip", ("a/../../canary", b"dead")),
    "zip absolute": lambda p: zip_of(p / "a.zip", (zip_entry(str(p / "canary")), b"dead")),
    "zip backslash": lambda p: zip_of(p / "a.zip", (zip_entry("..\\canary"), b"dead")),
    "zip drive": lambda p: zip_of(p / "a.zip", (zip_entry("C:\\canary"), b"dead")),
    "zip link": lambda p: zip_of(p / "a.zip", (zip_link("link"), b"../canary")),
    "zip bomb": lambda p: zip_of(p / "a.zip", ("bomb", bytes(20 * MEGABYTE))),
    "zip bomb of many": lambda p: zip_of(p / "a.zip", *((f"{n}", bytes(2 * MEGABYTE)) for n in range(6))),
    "zip of too many": lambda p: zip_of(p / "a.zip", *((f"{n}", b"") for n in range(60))),
    "zip that lies": lambda p: lying_zip(p / "a.zip"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_nothing_outside_changes(place: Path, name: str) -> None:
    archive = ATTACKS[name](place)
    outside = {path: content for path, content in tree(place).items() if not path.startswith("inside")}
    with pytest.raises(UserError, match=r"not unpacked|damaged") as told:
        extract(archive, place / "inside", max_bytes=10 * MEGABYTE, max_files=50)
    assert str(archive) in str(told.value)
    assert {path: content for path, content in tree(place).items() if not path.startswith("inside")} == outside
    assert (place / "canary").read_text() == "alive"
    left = [path for path in (place / "inside").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in left) <= 10 * MEGABYTE
    assert not any(path.is_symlink() for path in (place / "inside").rglob("*"))


def test_a_header_bomb_takes_no_memory(place: Path) -> None:
    """Its 64 MB are not read."""
    archive = long_header_bomb(place / "a.tar")
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="more than it may"):
            extract(archive, place / "inside", max_bytes=MEGABYTE)
        assert tracemalloc.get_traced_memory()[1] < 16 * MEGABYTE
    finally:
        tracemalloc.stop()


CONTENT = {"folder/a": b"first", "folder/deep/b": bytes(range(256)) * 40, "empty": b""}


def test_honest_archives_of_every_kind(place: Path) -> None:
    archives = [tar_of(place / f"a{mode[2:]}.tar", *CONTENT.items(), mode=mode) for mode in ("w:", "w:gz", "w:bz2", "w:xz")]
    archives.append(zip_of(place / "a.zip", *CONTENT.items()))
    archives.append(zip_of(place / "stored.zip", *CONTENT.items(), compression=zipfile.ZIP_STORED))
    for archive in archives:
        into = place / f"into {archive.name}"
        into.mkdir()
        extract(archive, into)
        assert {name: (into / name).read_bytes() for name in CONTENT} == CONTENT
        assert len([path for path in into.rglob("*") if path.is_file()]) == len(CONTENT)


def test_every_truncation_and_a_missing_file_are_told(place: Path) -> None:
    for archive in (tar_of(place / "a.tar.gz", *CONTENT.items()), zip_of(place / "a.zip", *CONTENT.items())):
        raw = archive.read_bytes()
        cut = place / f"cut {archive.name}"
        for length in range(0, len(raw) - 20, max(1, len(raw) // 25)):
            cut.write_bytes(raw[:length])
            with pytest.raises(UserError, match="damaged, incomplete or no archive"):
                extract(cut, place / "inside")
    with pytest.raises(UserError, match="cannot be unpacked"):
        extract(place / "nowhere.zip", place / "inside")


NAME = st.one_of(
    st.text("ab./\\:~\0 é", min_size=1, max_size=12),
    st.lists(st.sampled_from(["..", ".", "a", "canary", "inside", "/", "~", "C:", ""]), min_size=1, max_size=6).map("/".join),
)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(NAME, st.sampled_from(["file", "folder", "symlink", "link"])), max_size=5), st.booleans())
def test_whatever_the_names_nothing_outside_changes(place: Path, members: list[tuple[str, str]], as_zip: bool) -> None:
    archive = place / "any"
    if as_zip:
        files = [(zip_link(name) if kind == "symlink" else zip_entry(name), b"dead") for name, kind in members]
        zip_of(archive, *files)
    else:
        kinds = {"folder": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "link": tarfile.LNKTYPE}
        tar_of(archive, *((n, b"dead") if k == "file" else special(n, kinds[k], "../canary") for n, k in members))
    before = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    try:
        extract(archive, place / "inside")
    except UserError:
        pass
    else:
        assert not any(kind == "symlink" or (kind == "link" and not as_zip) for _, kind in members)
    assert {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()} == before
    assert {path.name for path in place.iterdir() if path.is_dir()} == {"inside"}
    assert not any(path.is_symlink() or path.stat().st_nlink > 1 for path in _files(place / "inside"))


def _files(folder: Path) -> list[Path]:
    return [Path(at) / name for at, _, names in os.walk(folder) for name in names]
