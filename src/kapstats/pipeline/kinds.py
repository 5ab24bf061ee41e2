"""What a plan can say: the study, its documents, and one frozen dataclass per kind of analysis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What the report is about.

    data : a trial of ``ks.datasets``, analysed when no folder is given
    arms : order of the arms where the data do not state it; the first is the reference
    subjects_question, response_question, relapse_question, safety_question : headings of the sections, when the usual
        ones do not fit
    """

    title: str
    subtitle: str = ""
    data: str = ""
    arms: tuple[str, ...] = ()
    subjects_question: str = ""
    response_question: str = ""
    relapse_question: str = ""
    safety_question: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """The tables as documents for a study report.

    formats : among rtf, docx, latex; none by default
    header, footer : texts of every page (protocol, confidentiality)
    orientation : "landscape" or "portrait"
    """

    formats: tuple[str, ...] = ()
    header: str = ""
    footer: str = ""
    orientation: str = "landscape"


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What all kinds of analysis have.

    name : of the files and links it makes
    dataset : ADaM dataset
    population : flag in ADSL ("" for everybody)
    where : conditions on rows, all of which must hold: ``"PARAMCD == 'MADRS'"``, ``"AVISITN > 0"``,
        ``"AVISIT in ['Week 8', 'Week 16']"``, ``"DTYPE is missing"``
    level : of the confidence intervals
    notes : sentences for the methods
    number : of the tables in documents ("14.2.1"; several tables of an analysis are 14.2.1.1, 14.2.1.2 ...)
    footnotes : sentences under the tables in documents
    page_rows : rows of a page of a document at most; 0 leaves page breaks to the word processor
    page_by_heading : begin a new page at every heading of a table
    """

    question: ClassVar[str] = ""
    name: str
    title: str
    dataset: str = ""
    population: str = ""
    where: tuple[str, ...] = ()
    level: float = 0.95
    notes: tuple[str, ...] = ()
    number: str = ""
    footnotes: tuple[str, ...] = ()
    page_rows: int = 0
    page_by_heading: bool = False

    @property
    def variable(self) -> str:
        """What the statistics are about: the response of the formula, a parameter, a term."""
        return str(getattr(self, "formula", "")).split("~")[0].strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mmrm(Analysis):
    """LS means and differences by visit from a mixed model for repeated measures.

    adjust : adjustments of the p values within a visit, each in its own column
    covariance : fallback chain that replaces the structure in the formula
    label : what the outcome is, as on an axis ("Change in MADRS, points")
    better : "lower" or "higher"
    """

    question: ClassVar[str] = "response"
    dataset: str = "adqs"
    formula: str
    arm: str = "TRT01P"
    visit: str = "AVISIT"
    reference: str | None = None
    df: str = "kenward-roger"
    covariance: tuple[str, ...] = ()
    reml: bool = True
    adjust: tuple[str, ...] = ("none",)
    label: str = "Outcome"
    better: str = "lower"
    forest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival(Analysis):
    """Kaplan-Meier curves, log-rank test, Cox model with its check, restricted mean.

    formula : ``Surv(time, event) ~ arm`` for the curves and, when `model` is not given, for test and Cox model
    model : formula of log-rank test and Cox model when it differs (strata)
    show : which of logrank, cox, zph, rmst
    times : when survival is tabulated and the number at risk printed
    label : what the curve is, as on an axis ("Free of relapse")
    event : what happens, in a sentence ("relapse")
    """

    question: ClassVar[str] = "relapse"
    dataset: str = "adtte"
    formula: str
    model: str = ""
    reference: str | None = None
    ties: str = "efron"
    conf_type: str = "log-log"
    show: tuple[str, ...] = ("logrank", "cox", "zph")
    times: tuple[float, ...] = ()
    tau: float | None = None
    unit: str = "days"
    label: str = "Free of the event"
    event: str = "the event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incidence(Analysis):
    """Adverse events by group: counts by organ class and term, differences against the reference.

    by : ADSL column that groups
    min_percent : terms below this in every group stay out of the differences and the figure
    """

    question: ClassVar[str] = "safety"
    dataset: str = "adae"
    population: str = "SAFFL"
    by: str = "TRT01A"
    terms: tuple[str, ...] = ("AEBODSYS", "AEDECOD")
    reference: str | None = None
    method: str = "miettinen-nurminen"
    treatment_emergent: bool = True
    min_percent: float = 5.0
    figure_terms: int = 12

    @property
    def variable(self) -> str:
        """The narrowest term."""
        return self.terms[-1] if self.terms else "any event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Course(Analysis):
    """The hours after a dose: means of a score or vital sign by minute and group.

    by : ADSL column that groups
    parameter : PARAMCD
    session : dosing session
    baseline : analyse the change from the value before the dose
    threshold : a level worth marking; the time above it is estimated
    """

    question: ClassVar[str] = "safety"
    dataset: str = "advs"
    population: str = "SAFFL"
    by: str = "ROUTE"
    parameter: str = "CADSS"
    session: int = 1
    baseline: bool = False
    threshold: float = 4.0
    label: str = "CADSS total score"

    @property
    def variable(self) -> str:
        """The parameter."""
        return self.parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline(Analysis):
    """Subjects at baseline by arm: moments and quartiles of numbers, counts of categories.

    by : ADSL column that groups
    variables : ADSL columns; the usual ones that are there by default
    total : a last column with all subjects
    denominator : percentages of all subjects of the group ("N") or of those with a value ("n")
    convention : "SAS" or "R": quartiles and rounding
    """

    question: ClassVar[str] = "subjects"
    dataset: str = "adsl"
    by: str = "TRT01P"
    variables: tuple[str, ...] = ()
    total: bool = True
    denominator: str = "N"
    convention: str = "SAS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposition(Analysis):
    """Populations, completed, discontinued and why, by arm.

    by : ADSL column that groups
    total : a last column with all subjects
    convention : "SAS" or "R": rounding
    """

    question: ClassVar[str] = "subjects"
    dataset: str = "adsl"
    by: str = "TRT01P"
    total: bool = True
    convention: str = "SAS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure(Analysis):
    """Sessions, doses and duration of treatment by arm or route.

    by : column of ADSL, or of ADEX (a subject is then counted in every group in which it was dosed)
    total : a last column with all subjects
    convention : "SAS" or "R": quartiles and rounding
    """

    question: ClassVar[str] = "subjects"
    dataset: str = "adex"
    by: str = "TRT01A"
    total: bool = True
    convention: str = "SAS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Analysis):
    """Records as they are.

    columns : of the dataset or of ADSL; all of the dataset by default
    sort : by default arm, subject and date
    limit : records in the printed table at most; 0 for all
    """

    question: ClassVar[str] = "subjects"
    dataset: str = "adsl"
    columns: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()
    limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroups(Analysis):
    """The effect within subgroups, with one test of interaction per factor.

    response : column of the response; one row per subject has to be left by `where`
    factors : columns whose levels are the subgroups
    covariates : columns adjusted for (measure "difference")
    measure : "difference" of means, "RD" or "OR" of a 0/1 response
    """

    question: ClassVar[str] = "response"
    dataset: str = "adqs"
    response: str = "CHG"
    by: str = "TRT01P"
    factors: tuple[str, ...]
    covariates: tuple[str, ...] = ()
    measure: str = "difference"
    reference: str | None = None
    label: str = "Outcome"
    better: str = "lower"

    @property
    def variable(self) -> str:
        """The response."""
        return self.response


KINDS: dict[str, type[Analysis]] = {
    "baseline": Baseline,
    "disposition": Disposition,
    "exposure": Exposure,
    "mmrm": Mmrm,
    "subgroups": Subgroups,
    "survival": Survival,
    "incidence": Incidence,
    "course": Course,
    "listing": Listing,
}


def plan_kinds() -> list[str]:
    """The kinds of analysis that a plan can ask for.

    Returns
    -------
    list of str
        What ``kind = "..."`` of an ``[[analysis]]`` may say.

    Examples
    --------
    >>> "mmrm" in plan_kinds()
    True
    """
    return list(KINDS)
