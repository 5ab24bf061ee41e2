"""Random streams: every component of every replicate has its own, found by name.

A stream is addressed by (seed, scenario, replicate, component). It does not depend on which other components are
drawn, in which order, on which machine or in which chunk: adding a component never moves another one's draws.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np


@cache
def key(name: str) -> int:
    """A 32-bit word that stands for `name` in a spawn key (first four bytes of its SHA-256).

    Examples
    --------
    >>> key("response") == key("response"), key("response") == key("dropout")
    (True, False)
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def stream(seed: int, scenario: str, replicate: int, component: str) -> np.random.Generator:
    """The generator of one component of one replicate.

    ``SeedSequence(seed, spawn_key=(scenario, replicate, component))``, names entering by their hash.

    Examples
    --------
    >>> a = stream(1, "kap-parallel", 7, "response").random()
    >>> _ = stream(1, "kap-parallel", 7, "dropout").random()
    >>> a == stream(1, "kap-parallel", 7, "response").random()
    True
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(key(scenario), replicate, key(component)))
    return np.random.Generator(np.random.PCG64(sequence))
