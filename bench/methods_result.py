"""What all units of the method bench found, as rows; what no other beats, what does not beat the plain choice."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from methods_math import BASELINES, Cell, Gain, best, frontier, paired
from methods_rows import ALL, BASELINE, BUDGETS, IDENTITY, OWN, Row, every, paper

from daemon.settings import parse

if TYPE_CHECKING:
    from methods import Found
    from methods_play import Result

COLUMNS = ("now", "past", "rest")
NUMBERS = {"cosine": "cosines", "tokens_out": "tokens", "bytes": "read", "judged": "judged_ms"}  # of a play's result
Table = dict[str, Any]


class Pool:
    """What the streams gave, put together in the order in which they were played."""

    def __init__(self, played: Iterable[Result]) -> None:
        self.kinds: list[str] = []
        self.rights: dict[str, list[bool]] = defaultdict(list)
        self.numbers: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.failed: dict[str, str] = {}
        for one in played:
            self.kinds += one.kinds
            self.failed = one.failed | self.failed
            for key, hits in one.rights.items():
                self.rights[key] += hits
            for name, of in NUMBERS.items():
                for key, values in getattr(one, of).items():
                    self.numbers[name][key] += values

    def all_of(self, key: str) -> list[bool]:
        """A row's answers, empty unless there is one for every question."""
        own = self.rights.get(key, [])
        return own if len(own) == len(self.kinds) else []

    def median_ms(self, key: str) -> dict[str, float]:
        """Of a gate's verdicts."""
        values = self.numbers["judged"].get(key)
        return {"ms": float(f"{statistics.median(values):.4g}")} if values else {}

    def mean(self, name: str, key: str) -> float | None:
        """Of one number of a row; None where nothing was noted."""
        values = self.numbers[name].get(key)
        return statistics.fmean(values) if values else None


def accuracy(hits: Sequence[bool], kinds: Sequence[str]) -> Table:
    """In %, all questions and by column."""
    if not hits:
        return {}
    found = {"accuracy": round(100 * statistics.fmean(hits), 2)}
    for column in COLUMNS:
        own = [hit for hit, of in zip(hits, kinds, strict=True) if of == column]
        found |= {column: round(100 * statistics.fmean(own), 2)} if own else {}
    return found


def told(row: Row) -> Table:
    """What a row is."""
    source = paper(row.stage, row.method)
    return {
        "stage": row.stage,
        "method": row.method,
        "fidelity": source.fidelity,
        "title": source.title,
        "options": {**row.options, **row.more.get("memory", {})},
        "budget": row.budget,
    }


def plain(stage: str) -> str:
    """The method that everything of a stage is compared with."""
    return BASELINE.get(stage, "uniform")


def against(pool: Pool, row: Row, other: str) -> Table:
    """A row's gain over method `other` at its budget."""
    own, theirs = pool.all_of(row.key), pool.all_of(f"{row.stage}/{other}@{row.budget}")
    if not own or not theirs or row.method == other:
        return {}
    gain = paired(own, theirs)
    right = round(100 * statistics.fmean(theirs), 2)
    return {"accuracy_uniform": right, "gain": asdict(gain), "verdict": gain.verdict}


def tiny_rows(stage: str, rows: Sequence[Row], found: Sequence[Found]) -> tuple[list[Table], dict[str, str]]:
    """The rows of one stage on the shipped model."""
    pool = Pool(one.played for one in found if one.unit[:2] == ("play", stage) and one.played is not None)
    filmed = Pool(one.played for one in found if one.unit[:2] == ("clip", stage) and one.played is not None)
    costs = {key: value for one in found if one.unit == ("cost", stage, "tiny") for key, value in one.costs.items()}
    gates = {key: value for one in found if one.unit[0] == "gates" for key, value in one.gates.items()}
    table = []
    for row in rows:
        cost = {name: _round(value) for name, value in costs.get(row.key, {}).items() if name != "cosine"}
        own = {name: pool.mean(name, row.key) for name in ("cosine", "tokens_out", "bytes")}
        played = {name: _round(value) for name, value in own.items() if value is not None}
        if stage not in ("recall", "focus"):
            played.pop("bytes", None)  # what is stored is known from the costs
        if stage == "tower":
            played.pop("tokens_out", None)  # a whole grid; how many patches were left is known from the costs
        table.append(
            told(row)
            | {"geometry": "tiny"}
            | cost
            | pool.median_ms(row.key)
            | played
            | {"cosine_clips": _round(filmed.mean("cosine", row.key))}
            | accuracy(pool.all_of(row.key), pool.kinds)
            | against(pool, row, plain(stage))
            | gates.get(row.key, {})
        )
    defaults(table, pool, stage, rows)
    return table, filmed.failed | pool.failed


def defaults(table: list[Table], pool: Pool, stage: str, rows: Sequence[Row]) -> None:
    """Beside every row its gain over the daemon's default, at the same budget where that has one."""
    name = default(stage)
    budgets = {row.budget for row in rows if row.method == name}
    for item, row in zip(table, rows, strict=True):
        at = row.budget if row.budget in budgets else ALL
        own, theirs = pool.all_of(row.key), pool.all_of(f"{stage}/{name}@{at}")
        if own and theirs and (row.method, row.budget) != (name, at):
            item["over_default"] = asdict(paired(own, theirs))


def default(stage: str) -> str:
    """The method that the daemon has by default."""
    settings = parse({"cameras": {"street": {"url": "file"}}}, "")
    if stage in ("gate", "rules"):
        return next(iter(settings.gate[-1])) if stage == "gate" else IDENTITY[stage]
    section = settings.memory if stage in ("retain", "recall", "focus") else settings.model
    spec = getattr(section, stage)
    return next(iter(spec if isinstance(spec, dict) else spec[-1]))


def half_rows(found: Sequence[Found], tuned: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """The rows of the 0.5B geometry: costs alone."""
    table: list[Table] = []
    for one in found:
        what, stage, geometry = one.unit
        if what != "cost" or geometry == "tiny":
            continue
        rows = {row.key: row for row in every(stage, str(geometry), tuned[stage])}
        table += [
            told(rows[key]) | {"geometry": geometry} | {name: _round(number) for name, number in cost.items()}
            for key, cost in one.costs.items()
        ]
    return table


def summary(
    rows: Mapping[str, Sequence[Row]],
    tuned: Mapping[str, Mapping[str, Any]],
    found: Sequence[Found],
    failed: Mapping[str, str],
) -> Table:
    """Everything that the units found."""
    table: list[Table] = []
    lost = dict(failed)
    for one in found:
        lost |= {f"{key} ({' '.join(map(str, one.unit))})": why for key, why in one.failed.items()}
    for stage, own in rows.items():
        made, out = tiny_rows(stage, own, found)
        table, lost = table + made, lost | out
    half = half_rows(found, tuned)
    beside = Pool(one.played for one in found if one.unit[0] == "beside" and one.played is not None)
    asked = {
        stage: sum(len(one.played.kinds) for one in found if one.unit[:2] == ("play", stage) and one.played)
        for stage in rows
    }
    return {
        "questions": asked,
        "systems": {name: accuracy(beside.all_of(name), beside.kinds) for name in beside.rights},
        "rows": table + half,
        **verdicts(table),
        "nearest": by_cosine(half),
        "defaults": {stage: follows(stage, [row for row in table if row["stage"] == stage]) for stage in rows},
        "missing": missing(table),
        "failed": lost,
    }


def by_cosine(half: Sequence[Table]) -> Table:
    """By stage and budget of the large geometry: whose last hidden state is nearest to the unreduced run's, and the
    plain choice's."""
    found: dict[str, dict[str, Table]] = defaultdict(dict)
    for row in half:
        if row["budget"] in (ALL, OWN) or row.get("cosine") is None:
            continue
        cell = found[row["stage"]].setdefault(row["budget"], {"method": None, "cosine": -1.0, "uniform": None})
        if row["method"] == plain(row["stage"]):
            cell["uniform"] = row["cosine"]
        elif row["method"] not in BASELINES and row["cosine"] > cell["cosine"]:
            cell |= {"method": row["method"], "cosine": row["cosine"]}
    return dict(found)


def budgets(stage: str, table: Iterable[Table]) -> list[str]:
    """The budgets of a stage that some row has, in order."""
    there = {row["budget"] for row in table if row["stage"] == stage}
    return [budget for budget in BUDGETS["tiny"][stage] if budget in there]


def verdicts(table: Sequence[Table]) -> Table:
    """By stage and budget: what no other beats, whether the best beats the plain choice, and which papers do not."""
    front: dict[str, dict[str, list[str]]] = defaultdict(dict)
    beats: dict[str, dict[str, Any]] = defaultdict(dict)
    behind: list[Table] = []
    for stage in dict.fromkeys(row["stage"] for row in table):
        for budget in budgets(stage, table):
            own = [row for row in table if (row["stage"], row["budget"]) == (stage, budget)]
            cells = [Cell(row["method"], row.get("accuracy"), row.get("ms")) for row in own]
            front[stage][budget] = frontier(cells)
            name = best(cells, (*BASELINES, plain(stage)))
            first = next((row for row in own if row["method"] == name), {})
            beats[stage][budget] = {"method": name, "gain": first.get("gain"), "verdict": first.get("verdict")}
            behind += [
                {"stage": stage, "budget": budget, "method": row["method"], "verdict": row["verdict"], **row["gain"]}
                for row in own
                if row.get("verdict") in ("level", "worse") and row["method"] not in BASELINES
            ]
    firsts = [cell for by_budget in beats.values() for cell in by_budget.values() if cell["gain"] is not None]
    met = {
        "budgets": len(firsts),
        "met": sum(cell["gain"]["points"] > 0 for cell in firsts),
        "beyond_chance": sum(cell["verdict"] == "better" for cell in firsts),
    }
    return {
        "frontier": dict(front),
        "best": dict(beats),
        "frontier_beats_uniform": met,
        "beaten_by_uniform": [item for item in behind if item["verdict"] == "worse"],
        "level_with_uniform": [item for item in behind if item["verdict"] == "level"],
    }


def follows(stage: str, table: Sequence[Table]) -> Table:
    """What a stage's rows say of the daemon's default: what is clearly more right than it, at which budgets."""
    name = default(stage)
    better, cheaper = defaultdict(list), defaultdict(list)
    identity = next((row for row in table if row["budget"] == ALL), {})
    for row in table:
        gain = row.get("over_default")
        if gain is None or row["budget"] == ALL or row["method"] == name:
            continue
        verdict = Gain(**gain).verdict
        if verdict == "better":
            better[row["method"]].append(row["budget"])
        if verdict != "worse" and row["budget"] != OWN and row.get("frame_ms", 0) < 0.95 * identity.get("frame_ms", 0):
            cheaper[row["method"]].append(row["budget"])
    count = len(budgets(stage, table))
    change = [method for method, where in better.items() if len(where) > count / 2]
    return {"default": name, "better": dict(better), "no_worse_and_cheaper": dict(cheaper), "change_to": change}


def missing(table: Iterable[Table]) -> list[str]:
    """`stage/method@budget` of rows without an accuracy."""
    return [f"{row['stage']}/{row['method']}@{row['budget']}" for row in table if "accuracy" not in row]


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
