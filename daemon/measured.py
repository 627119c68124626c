"""What `bench/methods.py` found of a method, as short texts for docs/methods.md; empty where nothing was measured."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "methods.json"
_LARGE, _SHIPPED = "0.5b", "tiny"  # geometries, as the bench names them

Row = Mapping[str, Any]  # stage, method, budget, geometry; ms, accuracy, gain {points, within}, where measured


@dataclass(frozen=True, slots=True)
class Measured:
    """The rows of a bench run, by stage and method."""

    rows: Mapping[tuple[str, str], Sequence[Row]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path = RESULTS) -> Measured:
        """Nothing where there is no such file."""
        found: dict[tuple[str, str], list[Row]] = defaultdict(list)
        if path.exists():
            for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
                found[row["stage"], row["method"]].append(row)
        return cls(found)

    def cost(self, stage: str, method: str) -> str:
        """Milliseconds at the stage over all budgets: of the large geometry, else of the shipped model."""
        for geometry in (_LARGE, _SHIPPED):
            times_ms = [row["ms"] for row in self._of(stage, method, geometry) if row.get("ms") is not None]
            if times_ms:
                least, most = _digits(min(times_ms)), _digits(max(times_ms))
                return f"{least} ms" if least == most else f"{least} to {most} ms"
        return ""

    def gain(self, stage: str, method: str) -> str:
        """Points of accuracy above the plain choice at the same budget, by budget, with their 95 % intervals."""
        gains = {row["budget"]: row["gain"] for row in self._of(stage, method, _SHIPPED) if row.get("gain")}
        return ", ".join(f"{budget}: {gain['points']:+.1f} ± {gain['within']:.1f}" for budget, gain in gains.items())

    def _of(self, stage: str, method: str, geometry: str) -> list[Row]:
        return [row for row in self.rows.get((stage, method), ()) if row["geometry"] == geometry]


def _digits(value: float) -> str:
    """Two of them, never in powers of ten."""
    return f"{value:.0f}" if value >= 10 else f"{float(f'{value:.2g}')}"
