"""Get a CIFAR set: from what lies in the data folder, else from a mirror, once for any number of processes."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bantamnet.data.archives import ENDINGS, extract
from bantamnet.data.cifar import CIFARS, CifarSet
from bantamnet.data.download import NoMirrorError, Patience, chosen_mirrors, fetch_files, say
from bantamnet.data.layouts import Found, find_archives, find_unpacked
from bantamnet.data.split import Split, canonical
from bantamnet.errors import UserError
from bantamnet.lock import alone

Splits = tuple[Split, Split]
"""Train and test."""

DOWNLOADS = ".download"
"""Inside the folder that is being made: archives, and parts of them."""


def load_cifar(name: str, root: Path) -> Splits:
    """Train and test split, from whatever lies in the data folder, else downloaded into it; raises `UserError`."""
    known = CIFARS[name]
    splits = _look(known, root)
    if splits is None:
        fetch_cifar(name, root)
        splits = _look(known, root)
        assert splits is not None
    return splits


def find_cifar(name: str, root: Path) -> Splits | None:
    """Train and test split from what lies in the data folder, or None; nothing is downloaded."""
    return _look(CIFARS[name], root)


def _look(known: CifarSet, root: Path) -> Splits | None:
    """The first that can be trusted of what lies there, unpacked or packed; `UserError` where all that lies there is damaged."""
    splits, reasons = _first(
        [
            *(partial(trusted, known, found) for found in find_unpacked(root, known.layouts)),
            *(partial(_unpack, known, archive, root) for archive in find_archives(root, known.layouts)),
        ]
    )
    if reasons and splits is None:
        raise UserError("; ".join(reasons) + f" (`bantamnet fetch {known.name}` does)")
    return splits


def _first(attempts: Iterable[Callable[[], Splits]]) -> tuple[Splits | None, list[str]]:
    """(what the first attempt gives that raises no `UserError`, what those before it said)."""
    reasons: list[str] = []
    for attempt in attempts:
        try:
            return attempt(), reasons
        except UserError as error:
            reasons.append(str(error))
    return None, reasons


def trusted(known: CifarSet, found: Found) -> Splits:
    """Both splits in canonical order, if their fingerprints are the set's; `UserError` if not."""
    splits = []
    for part, fingerprint in known.fingerprints.items():
        split = canonical(*found.read(part), known.class_names)
        if split.fingerprint != fingerprint:
            raise UserError(
                f"{found.folder}: these are not {known.name}'s {part} images (fingerprint {split.fingerprint[:12]}…, expected "
                f"{fingerprint[:12]}…); the files are damaged or changed, fetch them again"
            )
        splits.append(split)
    return splits[0], splits[1]


def _first_trusted(known: CifarSet, folder: Path) -> Splits:
    splits, reasons = _first(partial(trusted, known, found) for found in find_unpacked(folder, known.layouts))
    if splits is None:
        raise UserError("; ".join(reasons) or f"{folder}: no layout of {known.name} in it")
    return splits


def _unpack(known: CifarSet, archive: Path, root: Path) -> Splits:
    """Unpack an archive into `root/NAME` where that is free and can be written, else read it through a temporary folder."""
    target, making = root / known.name, _making(known, root)
    with contextlib.suppress(OSError), _alone(known, root):  # OSError: a folder that can only be read
        if target.exists():
            with contextlib.suppress(UserError):
                return _first_trusted(known, target)  # another process was first
        else:
            try:
                _clear(making, keep=[DOWNLOADS])
                extract(archive, making)
                shutil.rmtree(making / DOWNLOADS, ignore_errors=True)
                splits = _first_trusted(known, making)
                _settle(making, target)
                return splits
            except UserError:
                _clear(making, keep=[DOWNLOADS])
                with contextlib.suppress(OSError):
                    making.rmdir()  # unless a download had begun
                raise
    with tempfile.TemporaryDirectory(prefix="bantamnet-") as elsewhere:
        extract(archive, Path(elsewhere))
        return _first_trusted(known, Path(elsewhere))


def fetch_cifar(
    name: str,
    root: Path,
    mirrors: Sequence[str] = (),
    patience: Patience | None = None,
    tell: Callable[[str], None] = say,
) -> tuple[Path, bool]:
    """(the folder below `root` that holds the set, whether it was downloaded just now).

    Any number of processes may do this at once: one downloads, the others wait for it. `root/NAME` appears in one step, whole
    and checked; until then everything is in a hidden folder, from where a run that was cut off is gone on with. `mirrors` are
    asked instead of the known ones. Raises `UserError` where no mirror brings the set or the folder cannot be written.
    """
    known = CIFARS[name]
    asked = chosen_mirrors(known.mirrors, known.packages, mirrors)
    target, making = root / name, _making(known, root)
    downloads = making / DOWNLOADS
    try:
        if there := _lying_there(known, root):
            return there, False
        for archive in find_archives(root, known.layouts):
            with contextlib.suppress(UserError):
                _unpack(known, archive, root)
                if there := _lying_there(known, root):
                    return there, False
        if not asked:
            raise UserError(_missing(known, root, "  downloads are off (BANTAMNET_MIRRORS=none)"))
        with _alone(known, root, tell):
            if there := _lying_there(known, root):
                return there, False
            if target.exists():
                raise UserError(f"{target} is there, and is not {name} whole; move it away, then fetch again")
            if not _is_whole(known, making):
                _clear(making, keep=[DOWNLOADS])
                _clear(downloads, keep=[end for files in known.packages.values() for n in files for end in (n, f"{n}.part")])
                tell(f"fetching {name} into {target}")
                package = fetch_files(asked, known.packages, downloads, patience or Patience(), tell)
                for file in known.packages[package]:
                    if file.endswith(ENDINGS):
                        extract(downloads / file, making)
                    else:
                        shutil.copyfile(downloads / file, making / file)
                _first_trusted(known, making)
            shutil.rmtree(downloads, ignore_errors=True)
            _settle(making, target)
    except NoMirrorError as error:
        for folder in (downloads, making):
            with contextlib.suppress(OSError):
                folder.rmdir()  # unless something has come, which the next attempt goes on with
        raise UserError(_missing(known, root, str(error))) from None
    except OSError as error:
        raise UserError(
            f"{name} cannot be kept in {root}: {error.strerror or error}; name a folder with room that can be written, with "
            "--data-dir or BANTAMNET_DATA"
        ) from None
    return target, True


def _lying_there(known: CifarSet, root: Path) -> Path | None:
    """The folder that holds the set whole, unpacked."""
    for found in find_unpacked(root, known.layouts):
        with contextlib.suppress(UserError):
            trusted(known, found)
            return found.folder
    return None


def _missing(known: CifarSet, root: Path, why: str) -> str:
    return (
        f"data.name: {known.name} was not found in {root} and could not be fetched:\n{why}\n"
        f"Put into {root} one of: {known.expected}. Or name another folder with --data-dir or BANTAMNET_DATA, or mirrors of your "
        "own with BANTAMNET_MIRRORS. Or use the built-in data set: --data digits (--set data.name=digits)"
    )


def _making(known: CifarSet, root: Path) -> Path:
    return root / f".{known.name}.part"


@contextlib.contextmanager
def _alone(known: CifarSet, root: Path, tell: Callable[[str], None] = say) -> Iterator[None]:
    """One process at a time; the lock ends with its process, however that ends."""
    root.mkdir(parents=True, exist_ok=True)
    with alone(root / f".{known.name}.lock", lambda: tell(f"another process is getting {known.name}; waiting for it")):
        yield


def _clear(folder: Path, keep: Sequence[str] = ()) -> None:
    """Make the folder, with nothing in it but what is to be kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in keep:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _is_whole(known: CifarSet, folder: Path) -> bool:
    try:
        _first_trusted(known, folder)
    except UserError:
        return False
    return True


def _settle(making: Path, target: Path) -> None:
    """What was made gets its name in one step, and is on the disk by then."""
    for path in [*making.rglob("*"), making]:
        _flush(path)
    making.rename(target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
