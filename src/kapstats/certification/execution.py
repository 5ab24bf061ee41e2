"""Run chunks of replicates anywhere: in this process, in a pool, or on anything with ``submit()``; resume from files.

The unit that decides what is computed together is the *block* of `BLOCK` consecutive replicates, aligned at multiples
of `BLOCK`; a chunk is a run of whole blocks. So neither the chunk size nor the executor can change a single bit.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kapstats._types import FloatArray
from kapstats.data import output
from kapstats.errors import FormulaError

BLOCK = 20
SEAL = 32  # bytes of the SHA-256 behind the numbers of a chunk
Chunk = tuple[int, int]


def chunks(replicates: int, size: int) -> list[Chunk]:
    """(start, stop) of every chunk, whole blocks of `BLOCK` replicates.

    Examples
    --------
    >>> chunks(50, 25)
    [(0, 40), (40, 50)]
    """
    step = -(-size // BLOCK) * BLOCK
    return [(a, min(a + step, replicates)) for a in range(0, replicates, step)]


@contextmanager
def submitting(executor: Any) -> Iterator[Callable[..., Any] | None]:
    """The ``submit`` of an executor; a number makes a process pool of that size; None means in this process."""
    if executor is None:
        yield None
    elif isinstance(executor, int):
        with ProcessPoolExecutor(executor) as pool:
            yield pool.submit
    elif hasattr(executor, "submit"):
        yield executor.submit
    else:
        raise FormulaError("executor: None, a number of processes, or an object with submit(), e.g. a Dask client.")


def stored(folder: Path | None, chunk: Chunk) -> FloatArray | None:
    """The results of a chunk that an earlier run left behind; a file that is not whole, or changed, counts as none."""
    path = None if folder is None else _path(folder, chunk)
    if path is None or not path.exists():
        return None
    try:
        content = path.read_bytes()
        numbers, seal = content[:-SEAL], content[-SEAL:]
        if hashlib.sha256(numbers).digest() != seal:
            return None
        results: FloatArray = np.load(io.BytesIO(numbers), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return results if results.shape[:1] == (chunk[1] - chunk[0],) else None


def keep(folder: Path | None, chunk: Chunk, results: FloatArray) -> None:
    """Leave a chunk's results behind, an array file followed by its SHA-256; it appears whole or not at all."""
    if folder is None:
        return
    file = io.BytesIO()
    np.save(file, results)
    numbers = file.getvalue()
    output.write_file(_path(folder, chunk), numbers + hashlib.sha256(numbers).digest())


def _path(folder: Path, chunk: Chunk) -> Path:
    return folder / f"{chunk[0]:08d}-{chunk[1]:08d}.npy"


def run(
    work: Callable[..., FloatArray],
    task: Any,
    todo: list[Chunk],
    submit: Callable[..., Any] | None,
    folder: Path | None,
    progress: Callable[[dict[Chunk, FloatArray]], None],
) -> dict[Chunk, FloatArray]:
    """Results of every chunk, from files where they are, else ``work(task, start, stop)``."""
    done = {c: r for c in todo if (r := stored(folder, c)) is not None}
    missing = [c for c in todo if c not in done]
    if submit is None:
        for chunk in missing:
            done[chunk] = work(task, *chunk)
            keep(folder, chunk, done[chunk])
            progress(done)
        return done
    futures = {chunk: submit(work, task, *chunk) for chunk in missing}
    for chunk, future in futures.items():
        done[chunk] = np.asarray(future.result())
        keep(folder, chunk, done[chunk])
        progress(done)
    return done
