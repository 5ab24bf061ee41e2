"""The claims made for ketamine-assisted psychotherapy, as a page: estimand, call, published figures, verdict.

``python -m kapstats.evidence.claims > docs/claims.md`` writes the page from the shipped table ``claims``.
"""

from __future__ import annotations

import sys

import pandas as pd

from kapstats.evidence import table

HEAD = """# Claims and what speaks to them

What is said of ketamine-assisted psychotherapy, one claim at a time: the estimand that would test it, the call that
estimates it on a simulated trial shipped with kapstats, and what published figures say, those against it included.
The calls show how a claim is tested. Their results come from simulated patients and are no evidence for any claim;
the evidence is in print, in the tables of `ks.evidence`. Made from `ks.evidence.table("claims")`; every figure is held
against the table it is taken from.

```python
import numpy as np
import pandas as pd

import kapstats as ks
```
"""


def page() -> str:
    """The page in Markdown.

    Examples
    --------
    >>> page().startswith("# Claims")
    True
    """
    rows = table("claims").fillna("").to_dict("records")
    return HEAD + "".join(_section({str(k): str(v) for k, v in row.items()}) for row in rows)


def figures(row: dict[str, str]) -> list[tuple[str, str, str]]:
    """(table, study, printed value) of every figure behind a claim.

    Examples
    --------
    >>> figures({"figures": "contrasts|popova2019|-4.0"})
    [('contrasts', 'popova2019', '-4.0')]
    """
    parts = [token.split("|") for token in row["figures"].split(";") if token]
    return [(name, study, value) for name, study, value in parts]


def _section(row: dict[str, str]) -> str:
    call = f"\n```python\n{row['call']}\n```\n" if row["call"] else ""
    return (
        f"\n## {row['id']} {row['claim']}\n\n"
        f"**Estimand**: {row['estimand']}.\n\n"
        f"**Exercised on**: {row['dataset']}.\n{call}\n"
        f"**In print**: {row['published']}{_sources(row)}\n\n"
        f"**So far**: {row['verdict']}\n"
    )


def _sources(row: dict[str, str]) -> str:
    known: pd.Series = table("sources").set_index("study")["citation"]
    studies = dict.fromkeys(study for _, study, _ in figures(row))
    return f" ({'; '.join(str(known[s]) for s in studies)})" if studies else ""


if __name__ == "__main__":
    sys.stdout.write(page())
