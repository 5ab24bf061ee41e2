"""The built-in data sets again, bit for bit:

python -m kapstats.simulation data/synthetic            # every scenario and its null twin
python -m kapstats.simulation data/synthetic --truth    # the stored truths first (minutes)
python -m kapstats.simulation data/synthetic --only kap-cohort
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from kapstats.simulation import adam, scenario, truth


def main(arguments: Sequence[str] | None = None) -> int:
    """Write every built-in scenario as a folder of data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--truth", action="store_true", help="compute the stored truths first")
    parser.add_argument("--only", default="", help="scenarios whose name begins so")
    options = parser.parse_args(arguments)
    for name in (n for n in scenario.names() if n.startswith(options.only)):
        if options.truth:
            truth.store(name, str(resources.files("kapstats.simulation") / "scenarios"))
        adam.write(scenario.simulate(name), options.folder / name)
        print(name, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
