"""Estimators through the door: every replicate by the exported verb, from a table as users have it.

`VERBS` holds the `Estimator.verb` of those whose batch puts kernels together itself. Where the batch already is the
library's own call there is nothing to add. Arms are text, with their numbers beside them (TRT01PN), as in ADaM.
"""

from __future__ import annotations

from kapstats.certification.estimators.common import Analysis
from kapstats.certification.estimators.verbs import evidence, follow_up, pairs, safety, scenarios

#: controls that are nobody's verb: what they do by hand, and no exported function would
NO_VERB = {
    "crossover-no-period": "a paired t test by hand",
    "state_occupation-last-seen": "a share of last states by hand",
    "rmst-time-seen": "a mean of the times seen by hand",
    "zero_events-no-risk": "a limit of zero by hand",
    "incidence-records": "records counted as subjects by hand",
    "mcp_mod-best-shape": "the best of three trend tests by hand",
    "separation-first-visit": "the first small p value by hand",
    "subgroups-one-significant": "two t tests compared by hand",
}

VERBS: dict[str, Analysis] = {
    **scenarios.VERBS,
    **follow_up.VERBS,
    **safety.VERBS,
    **pairs.VERBS,
    **evidence.VERBS,
}
