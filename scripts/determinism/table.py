"""Outcomes by operator: as a table for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from determinism.trial import Outcome

TITLES = ("operator", "calls", "nodes", "vary by run", "vary by session", "largest difference")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of an operator's distinct calls."""

    operator: str
    calls: int
    nodes: int
    vary_between_runs: int
    vary_between_sessions: int
    largest_difference: float
    unwritten: int
    failed: int


def rows(outcomes: Iterable[Outcome]) -> tuple[Row, ...]:
    """One row for each operator, by name."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.found.call.operator, []).append(outcome)
    return tuple(_row(operator, groups[operator]) for operator in sorted(groups))


def _row(operator: str, outcomes: Sequence[Outcome]) -> Row:
    return Row(
        operator=operator,
        calls=len(outcomes),
        nodes=sum(len(outcome.found.nodes) for outcome in outcomes),
        vary_between_runs=sum(outcome.between_runs for outcome in outcomes),
        vary_between_sessions=sum(outcome.between_sessions for outcome in outcomes),
        largest_difference=max(outcome.difference for outcome in outcomes),
        unwritten=sum(outcome.unwritten for outcome in outcomes),
        failed=sum(outcome.failure is not None for outcome in outcomes),
    )


def as_text(outcomes: Sequence[Outcome]) -> str:
    """The table in Markdown, and a line for each call that is not sound."""
    lines = [f"| {' | '.join(TITLES)} |", "|---" * len(TITLES) + "|"]
    for row in rows(outcomes):
        varies = f"{row.largest_difference:.1e}" if row.largest_difference else "0"
        cells = (row.operator, row.calls, row.nodes, row.vary_between_runs, row.vary_between_sessions, varies)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, "", *(_complaint(outcome) for outcome in outcomes if not outcome.sound)])


def _complaint(outcome: Outcome) -> str:
    faults = [
        text
        for text, applies in (
            (f"did not run: {outcome.failure}", outcome.failure),
            ("varies between runs", outcome.between_runs),
            ("varies between sessions", outcome.between_sessions),
            (f"by {outcome.difference:.1e}", outcome.difference),
            ("leaves part of an output unwritten, or gives NaN", outcome.unwritten),
        )
        if applies
    ]
    first, *more = outcome.found.nodes
    others = f" and {len(more)} more" if more else ""
    return f"{outcome.found.call}: {', '.join(faults)} ({first}{others})"


def as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Operators, and every call with the nodes that make it."""
    return {
        "operators": [asdict(row) for row in rows(outcomes)],
        "calls": [
            {
                "operator": outcome.found.call.operator,
                "call": str(outcome.found.call),
                "nodes": list(outcome.found.nodes),
                "varies_between_runs": outcome.between_runs,
                "varies_between_sessions": outcome.between_sessions,
                "difference": outcome.difference,
                "unwritten": outcome.unwritten,
                "failure": outcome.failure,
            }
            for outcome in outcomes
        ],
    }
