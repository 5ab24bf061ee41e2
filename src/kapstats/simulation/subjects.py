"""Who is in the trial: arm by permuted blocks within site, site, therapist, age, sex, weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.simulation.scenario import Arm, Scenario

OLDER = 45


@dataclass(frozen=True, slots=True)
class Subjects:
    """Columns of length n: index of the arm, of the site, of the therapist (over all sites), and the covariates."""

    arm: IntArray
    site: IntArray
    therapist: IntArray
    age: IntArray
    female: BoolArray
    weight: FloatArray


def permuted_blocks(allocation: IntArray, n: int, rng: np.random.Generator) -> IntArray:
    """Arm indices (n,) in permuted blocks of the smallest size that keeps the allocation."""
    block = np.repeat(np.arange(allocation.size), allocation)
    blocks = -(-n // block.size)
    order = rng.random((blocks, block.size)).argsort(axis=1)
    return block[order].ravel()[:n]


def by_indication(arms: tuple[Arm, ...], female: BoolArray, older: BoolArray, u: FloatArray) -> IntArray:
    """Arm indices (n,) given with odds that depend on sex and age, from uniforms (n,)."""
    odds = np.stack([a.allocation * np.exp(a.female * female + a.older * older) for a in arms], axis=1)
    return (np.cumsum(odds, axis=1) / odds.sum(axis=1, keepdims=True) < u[:, None]).sum(axis=1)


def generate(scenario: Scenario, n: int, rng: np.random.Generator, choice: np.random.Generator) -> Subjects:
    """Enrol n subjects; blocks go to the sites in turn, so that arms are balanced within a site.

    In a registry nothing is randomised: `choice` decides by indication.
    """
    people = scenario.people
    allocation = np.array([a.allocation for a in scenario.arms])
    arm = permuted_blocks(allocation, n, rng)
    site = (np.arange(n) // int(allocation.sum())) % people.sites
    within = rng.integers(0, people.therapists, n)
    age = np.clip(np.rint(people.age_mean + people.age_sd * ndtri(rng.random(n))), 18, 75).astype(np.int64)
    female = rng.random(n) < people.female
    shift = np.where(female, -4.0, 8.0)
    weight = np.clip(people.weight_mean + shift + people.weight_sd * ndtri(rng.random(n)), 42, 160).round(1)
    if scenario.design == "registry":
        arm = by_indication(scenario.arms, female, age >= OLDER, choice.random(n))
    return Subjects(arm, site, site * people.therapists + within, age, female, weight)
