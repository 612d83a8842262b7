"""What was measured, as tables for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bandwidth.timing import Measured, Timing
from bandwidth.work import Work

# Rows of a graph's table, the longest first; what is left is added up in one line.
MOST_ROWS = 14
TITLES = ("operator", "shape", "calls", "µs", "TB/s", "of copy", "stock µs", "times", "ms")
TOTALS = ("graph", "operator", "calls", "ms", "of copy", "stock ms", "times")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One call and its times, None where it did not run; a `cold` one moves more than the cache holds."""

    work: Work
    own: Timing | None
    stock: Timing | None
    cold: bool

    @property
    def rate(self) -> float | None:
        """TB/s of what must be moved."""
        return self.work.moved_bytes / self.own.us / 1e6 if self.own else None

    @property
    def own_ms(self) -> float:
        """All such calls of the graph."""
        return self.work.count * self.own.us / 1e3 if self.own else 0.0

    @property
    def stock_ms(self) -> float:
        """The same by stock operators."""
        return self.work.count * self.stock.us / 1e3 if self.stock else 0.0


def rows(works: Sequence[Work], measured: Measured) -> tuple[Row, ...]:
    """A row for each call, in their order."""
    return tuple(
        Row(
            work=work,
            own=measured.timings.get((place, "own")),
            stock=measured.timings.get((place, "stock")),
            cold=work.moved_bytes > measured.cache_bytes,
        )
        for place, work in enumerate(works)
    )


def copy_rate(measured: Measured) -> float:
    """TB/s of the card's fastest copy."""
    return max(measured.copy_rates.values())


def as_text(found: Sequence[Row], measured: Measured, *, markdown: bool) -> str:
    """A table for each graph, then the sums by operator."""
    best = copy_rate(measured)
    lay = _markdown if markdown else _columns
    rates = [f"{size >> 20} MiB {when} {rate:.2f}" for (size, when), rate in measured.copy_rates.items()]
    lines = [
        f"{measured.gpu}: copies, TB/s: {', '.join(rates)}; the best is what shares are of.",
        f"(In brackets): moves less than the cache's {measured.cache_bytes >> 20} MiB, timed with it there. "
        "A group norm reads its map twice: mean and variance come first.",
    ]
    graphs = list(dict.fromkeys(row.work.graph for row in found))
    for graph in graphs:
        of_graph = sorted((row for row in found if row.work.graph == graph), key=lambda row: -row.own_ms)
        lines += ["", f"{graph}:", "", *lay(TITLES, [_cells(row, best) for row in of_graph[:MOST_ROWS]])]
        if left := of_graph[MOST_ROWS:]:
            calls = sum(row.work.count for row in left)
            lines += ["", f"and {calls} more calls of {len(left)} kinds, {_ms(left):.3f} ms"]
    return "\n".join([*lines, "", *lay(TOTALS, [_total(*group, best) for group in _groups(found, graphs)])])


def _cells(row: Row, best: float) -> tuple[str, ...]:
    share = "–" if row.rate is None else f"{row.rate / best:.0%}"
    return (
        row.work.operator, str(row.work), str(row.work.count), _us(row.own),
        "–" if row.rate is None else f"{row.rate:.2f}", share if row.cold else f"({share})",
        _us(row.stock), _ratio(row.stock.us, row.own.us) if row.own and row.stock else "–",
        f"{row.own_ms:.3f}",
    )  # fmt: skip


def _groups(found: Sequence[Row], graphs: Iterable[str]) -> list[tuple[str, str, list[Row]]]:
    members: dict[tuple[str, str], list[Row]] = {}
    for graph in graphs:
        for row in found:
            if row.work.graph == graph:
                members.setdefault((graph, row.work.operator), []).append(row)
        members[graph, "all"] = [row for row in found if row.work.graph == graph]
    return [(*names, group) for names, group in members.items()]


def _total(graph: str, operator: str, members: Sequence[Row], best: float) -> tuple[str, ...]:
    """The share is that of calls which exceed the cache, by all their bytes and all their time."""
    cold = [row for row in members if row.cold and row.own]
    moved, ms = sum(row.work.count * row.work.moved_bytes for row in cold), _ms(cold)
    both = [row for row in members if row.own and row.stock]
    return (
        graph, operator, str(sum(row.work.count for row in members)), f"{_ms(members):.3f}",
        f"{moved / ms / 1e9 / best:.0%}" if ms else "", f"{sum(row.stock_ms for row in members):.3f}",
        _ratio(sum(row.stock_ms for row in both), _ms(both)) if both else "–",
    )  # fmt: skip


def _ms(members: Iterable[Row]) -> float:
    return sum(row.own_ms for row in members)


def _us(timing: Timing | None) -> str:
    return f"{timing.us:.1f}" if timing else "–"


def _ratio(stock: float, own: float) -> str:
    return f"{stock / own:.2f}"


def _markdown(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    return [_line(titles), "|" + "---|" * len(titles), *(_line(row) for row in cells)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _columns(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    lines = [titles, *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    return ["  ".join(map(_padded, line, widths)).rstrip() for line in lines]


def _padded(cell: str, width: int) -> str:
    number = (cell[:1].isdigit() and "×" not in cell) or cell[:1] in "(–"
    return cell.rjust(width) if number else cell.ljust(width)


def as_json(found: Sequence[Row], measured: Measured) -> dict[str, Any]:
    """Every row, and what they were measured against."""
    return {
        "gpu": measured.gpu,
        "cache_bytes": measured.cache_bytes,
        "copies": [
            {"bytes": size, "when": when, "tb_s": rate} for (size, when), rate in measured.copy_rates.items()
        ],
        "copy_tb_s": copy_rate(measured),
        "calls": [_call(row, copy_rate(measured)) for row in found],
    }


def _call(row: Row, best: float) -> dict[str, Any]:
    return {
        "graph": row.work.graph,
        "operator": row.work.operator,
        "shape": str(row.work),
        "call": str(row.work.found.call),
        "count": row.work.count,
        "bytes": row.work.moved_bytes,
        "exceeds_cache": row.cold,
        "us": row.own and row.own.us,
        "tb_s": row.rate,
        "share": row.rate and row.rate / best,
        "kernels": row.own and row.own.kernels,
        "stock_us": row.stock and row.stock.us,
        "stock_kernels": row.stock and row.stock.kernels,
    }
