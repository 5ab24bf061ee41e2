"""Evidence over studies."""

from __future__ import annotations

from kapstats.certification.estimators.common import Certificate, Estimator

ESTIMATORS: tuple[Estimator, ...] = ()

CERTIFICATES: tuple[Certificate, ...] = ()
