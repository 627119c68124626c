"""`metrics.jsonl` of a training as a picture: losses and accuracy over steps, stage by stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CURVES = ("see", "answer", "point")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file; a last line that was cut off by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def plot(metrics: Path, picture: Path) -> None:
    """Draw `metrics` into `picture` (PNG or SVG by its name). Needs the extra `train` (matplotlib)."""
    from matplotlib.figure import Figure  # imported here: only a training needs it

    rows = read(metrics)
    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    begins: dict[str, int] = {}
    total, before = 0, ("", 0)
    place = []
    for row in rows:
        if row["stage"] != before[0]:
            total += before[1]
            begins.setdefault(row["stage"], total)
        before = (row["stage"], row["step"])
        place.append(begins[row["stage"]] + row["step"])
    for name in CURVES:
        known = [(at, row[name]) for at, row in zip(place, rows, strict=True) if name in row]
        if known:
            above.plot(*zip(*known, strict=True), label=name, linewidth=1)
    above.set(ylabel="loss", yscale="log")
    families = sorted({name for row in rows for name in row.get("families", {})})
    below.plot(place, [row["right"] for row in rows], color="black", label="all", linewidth=1.5)
    for name in families:
        known = [(at, row["families"][name]) for at, row in zip(place, rows, strict=True) if name in row["families"]]
        below.plot(*zip(*known, strict=True), label=name, linewidth=0.8)
    below.set(xlabel="step", ylabel="right", ylim=(0, 1))
    for axes in (above, below):
        for name, at in begins.items():
            axes.axvline(at, color="grey", linewidth=0.5)
            axes.annotate(name, (at, 1), xycoords=("data", "axes fraction"), fontsize=7, va="top")
        axes.legend(fontsize=7, ncols=2)
    figure.savefig(picture)
