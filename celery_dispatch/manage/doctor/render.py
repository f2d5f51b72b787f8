"""A diagnosis as text for people and as a document for scripts."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from celery_dispatch.manage.doctor.findings import Area, Diagnosis, Finding
from celery_dispatch.manage.reports import Severity
from celery_dispatch.manage.words import counted

__all__ = ["diagnosis_document", "diagnosis_view", "exit_status"]

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def exit_status(diagnosis: Diagnosis) -> int:
    """2 with errors, 1 with warnings, else 0."""
    if diagnosis.count(Severity.ERROR):
        return 2
    return 1 if diagnosis.count(Severity.WARNING) else 0


def diagnosis_document(diagnosis: Diagnosis) -> dict[str, Any]:
    """``{"errors", "warnings", "notes", "findings", "not_read"}``; the counts are of findings."""
    return {
        "errors": diagnosis.count(Severity.ERROR),
        "warnings": diagnosis.count(Severity.WARNING),
        "notes": diagnosis.count(Severity.NOTE),
        "findings": [
            {
                "area": finding.area.value.lower(),
                "severity": finding.severity.value,
                "what": finding.what,
                "evidence": list(finding.evidence),
                "cure": finding.cure or None,
            }
            for finding in diagnosis.findings
        ],
        "not_read": [area.value.lower() for area in Area if area in diagnosis.unread],
    }


def diagnosis_view(diagnosis: Diagnosis, width: int) -> RenderableType:
    """One section an area; below each finding its evidence and its cure."""
    parts: list[RenderableType] = []
    for area in Area:
        findings = [finding for finding in diagnosis.findings if finding.area is area]
        parts += [_heading(diagnosis, area, bool(findings))]
        parts += [_finding(finding) for finding in findings]
    counts = ", ".join(counted(diagnosis.count(severity), severity.value) for severity in Severity)
    return Group(*parts, Text(), Text(f"{counts}.", style="bold"))


def _heading(diagnosis: Diagnosis, area: Area, found: bool) -> Text:
    if area in diagnosis.unread:
        return Text.assemble((area.value, "bold"), (": not read", "yellow"))
    return Text.assemble((area.value, "bold"), "" if found else (": nothing to say", "green"))


def _finding(finding: Finding) -> RenderableType:
    style = _STYLES[finding.severity]
    lines: list[RenderableType] = [
        Padding(
            Text.assemble((finding.severity.value, style), f"  {finding.what}"), (0, 0, 0, 2), expand=False
        )
    ]
    lines += [Padding(Text(line), (0, 0, 0, 6), expand=False) for line in finding.evidence]
    if finding.cure:
        lines += [Padding(Text(f"→ {finding.cure}", style="dim"), (0, 0, 0, 4), expand=False)]
    return Group(*lines)
