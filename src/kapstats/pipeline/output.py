"""A folder that is either the old output or the new one, never half of one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from kapstats.errors import DataError

MARK = "manifest.json"


def write(files: Mapping[str, bytes], out: str | Path) -> Path:
    """Write `files` (name -> content) as the folder `out`, in place of an earlier output.

    The files are written to a folder beside it, which then takes its name.

    Raises
    ------
    DataError
        When `out` is a file, holds something that kapstats did not write, cannot be written, or is being written by
        another run.
    """
    out = Path(os.path.abspath(out))
    check(out)
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


def check(out: str | Path) -> None:
    """Refuse, before any work is done, a place that may not be written to; put back what a killed run had set aside."""
    out = Path(os.path.abspath(out))
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise DataError(f"{out} is not a folder. Choose another --out.")
    if out.is_dir() and any(out.iterdir()) and not _ours(out):
        held = ", ".join(sorted(p.name for p in out.iterdir())[:5])
        raise DataError(f"{out} holds something that kapstats did not write ({held}). Choose an empty or new folder.")
    if out == out.parent:
        raise DataError(f"{out} is the root of the file system. Choose another --out.")
    owner = _owner(_lock(out))
    if owner is not None and _alive(owner):
        raise _in_use(out, owner)
    _put_back(out)


def _ours(out: Path) -> bool:
    """Whether everything in the folder is listed in its manifest."""
    try:
        listed = set(json.loads((out / MARK).read_text(encoding="utf-8"))["outputs"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    held = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    return held <= listed | {MARK, "report.html"}


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the lock beside `out`; a lock left by a process that is gone is taken over."""
    lock = _lock(out)
    for attempt in (1, 2):
        try:
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileExistsError:
            owner = _owner(lock)
            if attempt == 2 or owner is None or _alive(owner):
                raise _in_use(out, owner) from None
            lock.unlink(missing_ok=True)
    try:
        os.write(handle, str(os.getpid()).encode())
        os.close(handle)
        yield
    finally:
        lock.unlink(missing_ok=True)


def _lock(out: Path) -> Path:
    return out.parent / f".{out.name}.lock"


def _in_use(out: Path, owner: int | None) -> DataError:
    return DataError(f"{out} is being written by another run (process {owner}; lock file {_lock(out).name}).")


def _owner(lock: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(lock.read_text())
    return None


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


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
    for half in out.parent.glob(f".{out.name}.new-*"):
        shutil.rmtree(half, ignore_errors=True)
    _put_back(out)
    shutil.rmtree(_previous(out), ignore_errors=True)


def _put_back(out: Path) -> None:
    if _previous(out).is_dir() and not out.exists():
        os.replace(_previous(out), out)


def _swap(new: Path, out: Path) -> None:
    old = _previous(out)
    if out.exists():
        os.replace(out, old)
    try:
        os.replace(new, out)
    except OSError:
        if old.exists():
            os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)
