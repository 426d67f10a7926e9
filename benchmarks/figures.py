"""The two figures of the report."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from growth import Measured
    from matplotlib.axes import Axes
    from suites import Timed

COLOURS = {"NumPy": "#6b8ba4", "torch": "#d94801", "jax": "#74a57f"}
STYLES = {"logsumexp": {"linestyle": "--", "marker": "s"}, "cross_entropy with gradient": {"marker": "o"}}
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
BAR, MARGIN = 0.27, 1.2  # inches


def package(name: str) -> str:
    """The library that a peer belongs to."""
    return name.partition(".")[0]


def bars(axes: Axes, library: str, times: Sequence[Timed]) -> None:
    """Draw one library's ratios, and where they should reach."""
    ratios = [timed.ratio for timed in times]
    axes.barh(range(len(times)), [ratio - 1 for ratio in ratios], left=1, color=COLOURS[library])
    targets = [timed.row.target.bound for timed in times]
    axes.plot(targets, range(len(times)), "|", color="black", markersize=11, markeredgewidth=1.5)
    labels = [f"{t.row.pair.label}, {t.row.size}, against {package(t.row.pair.peer.name)}" for t in times]
    axes.set_yticks(range(len(times)), labels=labels, fontsize=8)
    for height, ratio in enumerate(ratios):
        side, place = (4, "left") if ratio >= 1 else (-4, "right")
        axes.annotate(
            f"{ratio:.2g}", (ratio, height), (side, 0), textcoords="offset points", ha=place, va="center", fontsize=8
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.set_title(library, loc="left", fontsize=10, fontweight="bold")


def draw_ratios(times: Sequence[Timed], path: Path) -> None:
    """Draw how many times as long the peer takes, for the rows that have a target for it."""
    aimed = [timed for timed in times if timed.row.target is not None and timed.row.target.quantity == "ratio"]
    aimed.sort(key=lambda timed: [*COLOURS].index(timed.row.pair.library))
    libraries = [(library, list(own)) for library, own in groupby(aimed, lambda timed: timed.row.pair.library)]
    if not libraries:
        return
    figure = Figure(figsize=(10, BAR * len(aimed) + MARGIN + 0.4 * len(libraries)), layout="constrained")
    heights = [len(own) for _, own in libraries]
    panels = figure.subplots(len(libraries), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (library, own) in zip(panels, libraries, strict=True):
        bars(axes, library, own)
    panels[-1].set_xscale("log")
    low, high = panels[-1].get_xlim()
    panels[-1].set_xlim(low / 1.25, high * 1.1)
    panels[-1].set_xticks([tick for tick in TICKS if low <= tick <= high], minor=False)
    panels[-1].xaxis.set_major_formatter("{x:g}")
    panels[-1].minorticks_off()
    panels[-1].set_xlabel("time of the peer ÷ time of softxent: right of 1 softxent is faster\nblack marks are targets")
    figure.savefig(path, dpi=130)


def draw_growth(curves: Sequence[Measured], seconds_a_copied_element: float, path: Path) -> None:
    """Draw time against size, beside the time that copying the logits takes."""
    if not curves:
        return
    names = sorted({measured.curve.axis for measured in curves}, reverse=True)
    figure = Figure(figsize=(12, 5), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
        own = [measured for measured in curves if measured.curve.axis == name]
        for measured in own:
            curve = measured.curve
            axes.plot(
                measured.elements,
                [1e3 * seconds for seconds in measured.seconds],
                color=COLOURS[curve.library],
                label=f"{curve.library} {curve.function}",
                **STYLES[curve.function],
            )
        ends = own[0].elements[:: len(own[0].elements) - 1]
        copies = [1e3 * seconds_a_copied_element * elements for elements in ends]
        axes.plot(ends, copies, color="black", linewidth=1, linestyle=":", label="copy of the logits: memory bandwidth")
        axes.set(xscale="log", yscale="log", xlabel="number of logits, float32", title=f"More {name}")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("time of a call, ms")
    figure.axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
