"""A registry of any size, streamed to parquet in chunks that are each a replicate of the scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kapstats.simulation.adam import assemble
from kapstats.simulation.draw import draw
from kapstats.simulation.scenario import Scenario, resolve

#: data sets of the registry that are written
DATASETS = ("adsl", "adqs", "adae")


def stream(
    folder: str | Path, subjects: int, scenario: str | Scenario = "kap-registry", *, seed: int = 1, chunk: int = 20_000
) -> dict[str, Path]:
    """Write a registry as ``adsl``, ``adqs`` and ``adae`` parquet files, never holding more than one chunk in memory.

    Parameters
    ----------
    folder : made when it does not exist
    subjects : how many; the last chunk is cut
    scenario, seed : as in `simulate`; chunk i is replicate i, so a longer registry begins with a shorter one
    chunk : subjects at a time; part of what defines the registry

    Returns
    -------
    dict
        data set -> file. The truth of the scenario holds for it whatever its size.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(stream(folder, 60, chunk=40))
    ['adae', 'adqs', 'adsl']
    """
    from pyarrow import Table
    from pyarrow.parquet import ParquetWriter

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = resolve(scenario)
    files = {name: folder / f"{name}.parquet" for name in DATASETS}
    writers: dict[str, Any] = {}
    try:
        for index in range(-(-subjects // chunk)):
            trial = assemble(draw(chosen, n=chunk, seed=seed, replicate=index), truth=False)
            left = subjects - index * chunk
            adsl = trial.adsl.head(left)
            for name in DATASETS:
                whole = trial.datasets[name]
                frame = whole[whole["USUBJID"].isin(adsl["USUBJID"])]
                table = Table.from_pandas(frame, preserve_index=False)
                if name not in writers:
                    writers[name] = ParquetWriter(files[name], table.schema, compression="zstd")
                writers[name].write_table(table.cast(writers[name].schema))
    finally:
        for writer in writers.values():
            writer.close()
    return files
