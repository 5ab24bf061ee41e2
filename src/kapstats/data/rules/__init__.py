"""The rules of `trial.check()`, one module per kind of dataset; every rule says what must hold."""

from kapstats.data.rules import adverse_events, assessments, every, subjects, times
from kapstats.data.rules.rule import Hit, Rule

RULES: tuple[Rule, ...] = (
    *every.RULES,
    *subjects.RULES,
    *assessments.RULES,
    *times.RULES,
    *adverse_events.RULES,
)

__all__ = ["RULES", "Hit", "Rule"]
