"""Files and folders that are either the old output or the new one, never half of one."""

from __future__ import annotations

import ctypes
import glob
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from kapstats.errors import DataError

MARK = "manifest.json"


def write(files: Mapping[str, bytes], out: str | Path, ours: Callable[[Path], set[str]] | None = None) -> Path:
    """Write `files` (name -> content) as the folder `out`, in place of an earlier output.

    The files are written to a folder beside it, which then takes its name.

    Parameters
    ----------
    ours : the names that an earlier output in a folder lists as its own; by default those of ``manifest.json``

    Raises
    ------
    DataError
        When `out` is a file, holds something that kapstats did not write, cannot be written, or is being written by
        another run.
    """
    out = Path(os.path.abspath(out))
    check(out, ours)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _alone(out):
            _recover(out)
            new = Path(tempfile.mkdtemp(prefix=f".{out.name}.new-", dir=out.parent))
            try:
                _fill(new, files)
                _swap(new, out)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}.") from error
    return out


def write_file(path: Path, content: bytes) -> None:
    """Write one file so that it appears whole or not at all.

    Raises
    ------
    DataError
        When it cannot be written; nothing is left behind.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def check(out: str | Path, ours: Callable[[Path], set[str]] | None = None) -> None:
    """Refuse, before any work is done, a place that may not be written to; put back what a killed run had set aside."""
    out = Path(os.path.abspath(out))
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise DataError(f"{out} is not a folder. Choose another --out.")
    others = _files(out) - (ours or listed)(out) if out.is_dir() else set()
    if others:
        held = ", ".join(sorted(others)[:5])
        raise DataError(f"{out} holds something that kapstats did not write ({held}). Choose an empty or new folder.")
    if out == out.parent:
        raise DataError(f"{out} is the root of the file system. Choose another --out.")
    if _lock(out).exists() or _previous(out).exists():
        try:
            with _alone(out):
                _put_back(out)
        except OSError as error:
            raise DataError(f"{out} cannot be written: {error.strerror or error}.") from error


def listed(out: Path) -> set[str]:
    """The files that the manifest of a folder lists, and itself; none where there is no manifest."""
    try:
        return {*json.loads((out / MARK).read_text(encoding="utf-8"))["outputs"], MARK, "report.html"}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _files(out: Path) -> set[str]:
    """Everything below a folder that a new output would replace: files, links, and folders without any."""
    found = list(out.rglob("*"))
    parents = {parent for p in found for parent in p.parents}
    return {p.relative_to(out).as_posix() for p in found if not p.is_dir() or p.is_symlink() or p not in parents}


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the lock beside `out`: the system lets go of it when the process ends, however it ends."""
    lock = _lock(out)
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = _held(lock)
    if handle is None:
        raise _in_use(out, _owner(lock))
    try:
        os.truncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        with suppress(OSError):  # Windows keeps a file that is open
            lock.unlink()
        os.close(handle)


def _held(lock: Path) -> int | None:
    """The lock file, open and locked; None while another process holds it."""
    while True:
        handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            _take(handle)
            if lock.exists() and os.path.samestat(os.fstat(handle), lock.stat()):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except FileNotFoundError:  # between the two looks its holder took it away
            pass
        os.close(handle)


def _take(handle: int) -> None:
    """The system's lock on an open file, or BlockingIOError."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    try:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        raise BlockingIOError from error


def _lock(out: Path) -> Path:
    return out.parent / f".{out.name}.lock"


def _in_use(out: Path, owner: int | None) -> DataError:
    return DataError(f"{out} is being written by another run (process {owner}; lock file {_lock(out).name}).")


def _owner(lock: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(lock.read_text())
    return None


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    folder.chmod(0o755)


def _previous(out: Path) -> Path:
    return out.parent / f".{out.name}.previous"


def _recover(out: Path) -> None:
    """Put back the output that an interrupted run had just set aside, and sweep up what it left half written."""
    for half in out.parent.glob(f".{glob.escape(out.name)}.new-*"):
        shutil.rmtree(half, ignore_errors=True)
    _put_back(out)
    shutil.rmtree(_previous(out), ignore_errors=True)


def _put_back(out: Path) -> None:
    if _previous(out).is_dir() and not out.exists():
        os.replace(_previous(out), out)


def _swap(new: Path, out: Path) -> None:
    """Give `new` the name of `out`: in one step where the system can exchange names, else by way of a third name."""
    if out.exists() and _exchange(new, out):
        return
    old = _previous(out)
    if out.exists():
        os.replace(out, old)
    try:
        os.replace(new, out)
    except BaseException:
        if old.exists():
            os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(new: Path, out: Path) -> bool:
    """Exchange the names of two folders at once; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and call(here, os.fsencode(new), here, os.fsencode(out), exchange) == 0
