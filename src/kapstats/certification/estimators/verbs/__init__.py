"""Estimators through the door: every replicate by the exported verb, from a table as users have it.

`VERBS` holds the `Estimator.verb` of those whose batch puts kernels together itself. Where the batch already is the
library's own call there is nothing to add. Arms are text, with their numbers beside them (TRT01PN), as in ADaM.
"""

from __future__ import annotations

from kapstats.certification.estimators.common import Analysis
from kapstats.certification.estimators.verbs import evidence, follow_up, pairs, safety, scenarios

VERBS: dict[str, Analysis] = {
    **scenarios.VERBS,
    **follow_up.VERBS,
    **safety.VERBS,
    **pairs.VERBS,
    **evidence.VERBS,
}
