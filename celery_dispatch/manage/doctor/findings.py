"""What the doctor answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from celery_dispatch.manage.problems import SEE_DOCTOR
from celery_dispatch.manage.problems_of_nodes import ASK_REDIS
from celery_dispatch.manage.reports import Problem, Severity

__all__ = ["Area", "Diagnosis", "Finding", "from_problem"]


class Area(Enum):
    """What a finding is about, in the order in which they are shown."""

    SETTINGS = "settings"
    REDIS = "Redis"
    NODES = "nodes"
    CONFIGS = "configs"
    BROKER = "broker"
    ENTRIES = "entries"
    INTENTS = "intents"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: ``evidence`` is what it rests on, a line each; a note may have no cure."""

    area: Area
    severity: Severity
    what: str
    evidence: tuple[str, ...] = ()
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, by area and the worst first; ``unread`` are areas that could not be looked at."""

    findings: tuple[Finding, ...]
    unread: frozenset[Area] = frozenset()

    def count(self, severity: Severity) -> int:
        return sum(finding.severity is severity for finding in self.findings)


def from_problem(problem: Problem, area: Area, evidence: Iterable[str] = ()) -> Finding:
    """A problem that ``status`` shows too, with what it rests on."""
    cure = problem.cure.replace(SEE_DOCTOR, "").replace(ASK_REDIS, "")
    return Finding(area, problem.severity, problem.what, tuple(evidence), cure)
