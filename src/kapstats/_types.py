"""Shared type aliases."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
#: a pandas, polars or pyarrow table, or a path to one
FrameLike = Any
Side = Literal["two", "less", "greater"]
