"""Where a report comes from: inputs with their hashes, plan, versions, seed."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from kapstats import frames
from kapstats.data.trial import Trial
from kapstats.estimates import versions
from kapstats.pipeline.plan import Plan
from kapstats.table import Table

COMPUTING = ("formulaic", "narwhals", "matplotlib")


def manifest(plan: Plan, trial: Trial, source: Path | None, outputs: dict[str, bytes]) -> dict[str, Any]:
    """Everything that is needed to repeat the run and to check that it gave the same.

    Parameters
    ----------
    source : the folder the data were read from, None when they were given as objects
    outputs : file name -> content; hashed, except for the files that carry the time stamp
    """
    truth = trial.truth or {}
    made: dict[str, Any] = {
        "study": plan.study.title,
        "plan": {"source": plan.source, "sha256": digest(plan.text.encode())},
        "data": _datasets(trial),
        "files": _files(source),
        "versions": dict(versions()) | {name: _version(name) for name in COMPUTING},
    }
    if truth:
        made["simulated"] = {k: truth[k] for k in ("scenario", "digest", "seed", "reference") if k in truth}
    made["outputs"] = {name: digest(content) for name, content in sorted(outputs.items())}
    return made


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def created() -> str:
    """Now in UTC to the second; SOURCE_DATE_EPOCH, where set, stands for now."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def tables(made: dict[str, Any]) -> tuple[Table, ...]:
    """The manifest as tables for the report."""
    data = tuple(
        (name.upper(), str(d["rows"]), str(d["columns"]), d["fingerprint"]) for name, d in made["data"].items()
    )
    found = tuple((f["name"], f["sha256"]) for f in made["files"])
    shown = [Table(("Dataset", "Rows", "Columns", "Fingerprint"), data, title="Data")]
    if found:
        shown.append(Table(("File", "SHA-256"), found, title="Files read", align=("left", "left")))
    versions_ = tuple(made["versions"].items())
    plan = (("plan", made["plan"]["source"]), ("SHA-256 of the plan", made["plan"]["sha256"]))
    shown.append(Table(("", "Version"), (*versions_, *plan), title="Software and plan", align=("left", "left")))
    return tuple(shown)


def _datasets(trial: Trial) -> dict[str, dict[str, Any]]:
    return {
        name: {"rows": len(frame), "columns": frame.shape[1], "fingerprint": frames.fingerprint(frame)}
        for name, frame in trial.datasets.items()
    }


def _files(source: Path | None) -> list[dict[str, Any]]:
    """Data files of the folder in alphabetical order."""
    if source is None or not source.is_dir():
        return []
    kept = [
        p
        for p in sorted(source.iterdir())
        if p.is_file() and (p.name.lower().startswith("ad") or p.name == "truth.json")
    ]
    return [{"name": p.name, "bytes": p.stat().st_size, "sha256": digest(p.read_bytes())} for p in kept]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
