"""What the method bench found, as tables on the terminal, as a page, and as a picture of accuracy over cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Table = Mapping[str, Any]

HEADS = {
    "gate": "which frames are looked at; budget: share of the frames that `stride` gives",
    "tower": "fewer patches inside the vision tower; budget: share left after the last block",
    "reduce": "fewer visual tokens; budget: tokens of a frame",
    "carrier": "what is remembered of a frame; budget: companions of a carrier",
    "prefill": "fewer tokens in later layers; budget: share that reaches the last layer",
    "retain": "who leaves a full bank; budget: carriers that it holds",
    "recall": "what a question reads of bank and archive; budget: carriers",
    "focus": "what a question reads of the newest frames' visual tokens; budget: tokens",
    "rules": "what standing questions read, several at a time; budget: share of the remembered keys",
}
UNITS = (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9))
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:gray")
PAGE_HEAD = """# Methods at equal budgets

Written by `python bench/methods.py --report docs/methods_bench.md` from `bench/results/methods.json`; do not edit it.

Every method of every stage, beside the plain choices at the same budget. *Right* is watchbench's accuracy of the
shipped model, in %, over the same questions for all rows of a stage; *gain* is how many points that is above the plain
choice (`uniform`, of gates `stride`) at the same budget, with the 95 % interval over paired questions (taken as
independent, which questions about one street are not quite: read an interval as a little too narrow). **Bold** rows are
on the frontier of their budget: none is at least as right in as little time. *Cosine* compares the last hidden state of
two fixed questions after the stream with the row that leaves everything as it is, on rendered streams and on real
*clips*. *In* and *out* count what goes into the stage and what is left (a share of the frames, patches, tokens,
carriers), *bytes* what is stored of it or read by a question. *ms* is processor time of one core at the stage (a frame;
of `retain`, `recall` and `focus` one choice, of `rules` eight questions), with the shipped model, and *frame* that of a
whole frame. An interval is of one comparison: of forty rows that are level one stands out by chance alone.

![accuracy over cost, a panel a stage](methods_bench.svg)

Measured on {machine}, {date}, commit {commit}: {processor:.0f} s of one core.
"""


# -- one stage ---------------------------------------------------------------------------------------------------------


def stages(result: Table) -> list[str]:
    """In the order in which frames meet them."""
    return list(dict.fromkeys(row["stage"] for row in result["rows"]))


def of(result: Table, stage: str, geometry: str) -> list[Table]:
    """The rows of a stage on one geometry."""
    return [row for row in result["rows"] if row["stage"] == stage and row["geometry"] == geometry]


def cells(row: Table) -> list[str]:
    """One row on the shipped model, as texts."""
    gain = row.get("gain")
    against = "" if gain is None else f"{gain['points']:+.1f} ± {gain['within']:.1f}"
    return [
        row["method"],
        row["fidelity"],
        number(row.get("tokens_in")),
        number(row.get("tokens_out")),
        number(row.get("ms")),
        number(row.get("frame_ms")),
        size(row.get("bytes")),
        share(row.get("cosine")),
        share(row.get("cosine_clips")),
        *(percent(row.get(name)) for name in ("now", "past", "accuracy")),
        against,
    ]


COLUMNS = (
    *("method", "fidelity", "in", "out", "ms", "frame", "bytes", "cosine", "clips", "now", "past", "right", "gain"),
)


def number(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def share(value: float | None) -> str:
    """A cosine."""
    return "" if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Of right answers."""
    return "" if value is None else f"{value:.1f}"


def size(value: float | None) -> str:
    """Bytes, three digits and a unit."""
    if value is None:
        return ""
    name, unit = next((item for item in reversed(UNITS) if value >= item[1]), UNITS[0])
    return f"{value / unit:.3g} {name}"


def groups(result: Table, stage: str, geometry: str = "tiny") -> dict[str, list[Table]]:
    """Rows by budget, in order."""
    found: dict[str, list[Table]] = {}
    for row in of(result, stage, geometry):
        found.setdefault(row["budget"], []).append(row)
    return found


def sentences(result: Table, stage: str) -> list[str]:
    """What has to be said plainly of a stage, a sentence a budget, and what follows for the default."""
    found = []
    plain = "stride" if stage == "gate" else "uniform"
    for budget in result["frontier"].get(stage, {}):
        said = []
        judged = [row for row in of(result, stage, "tiny") if row["budget"] == budget and "verdict" in row]
        judged = [row for row in judged if row["method"] not in ("random", "uniform", "stride", "all", "none")]
        for kind, head in (
            ("better", f"beats `{plain}`"),
            ("level", f"does not beat `{plain}` beyond chance"),
            ("worse", f"is worse than `{plain}`"),
        ):
            names = [f"`{row['method']}` ({_gain(row['gain'])})" for row in judged if row["verdict"] == kind]
            said += [f"{head}: {', '.join(names)}"] if names else []
        found.append(f"- **{budget}**: {'; '.join(said) or 'nothing to compare'}.")
    return found


def _gain(gain: Table) -> str:
    return f"{gain['points']:+.1f} ± {gain['within']:.1f}"


def follows(found: Table) -> str:
    """What a stage's rows say of the daemon's default."""
    name, better, cheaper = found["default"], found["better"], found["no_worse_and_cheaper"]
    text = f"The daemon's default here is `{name}`."
    if found["change_to"]:
        text += f" More right than it beyond chance at most budgets: {_where(better, found['change_to'])}."
    elif better:
        text += f" More right than it beyond chance only at single budgets: {_where(better, list(better))}."
    else:
        text += " No row is more right than it beyond chance."
    if cheaper:
        text += f" No worse beyond chance, and a frame is at least 5 % cheaper: {_where(cheaper, list(cheaper))}."
    return text


def _where(found: Table, names: Sequence[str]) -> str:
    return ", ".join(f"`{name}` ({', '.join(found[name])})" for name in names)


# -- terminal ----------------------------------------------------------------------------------------------------------


def show(result: Table) -> None:
    """Print everything."""
    print(
        f"{result['model']}; {sum(result['questions'].values())} questions over all stages, {result['seconds']:.0f} s"
    )
    for name, row in result["systems"].items():
        print(f"{name:10} {percent(row.get('accuracy')):>6} right ({', '.join(_columns(row))})")
    for stage in stages(result):
        print(f"\n{stage}: {HEADS[stage]} ({result['questions'].get(stage, 0)} questions)")
        print(_line("", COLUMNS))
        for budget, rows in groups(result, stage).items():
            front = result["frontier"].get(stage, {}).get(budget, [])
            for row in rows:
                print(_line(budget, cells(row)) + (" *" if row["method"] in front else ""))
        for row in of(result, stage, "0.5b"):
            cost = [number(row.get(name)) for name in ("tokens_in", "tokens_out", "ms", "frame_ms")]
            print(f"0.5b {row['budget']:>6} {row['method']:14}" + "".join(f"{cell:>9}" for cell in cost))
        print("\n".join([*sentences(result, stage), follows(result["defaults"][stage])]))
    met = result["frontier_beats_uniform"]
    print(
        f"\nthe best method is above the plain choice at {met['met']} of {met['budgets']} budgets, "
        f"beyond chance at {met['beyond_chance']}"
    )
    for key, why in result["failed"].items():
        print(f"failed: {key}: {why}")
    for key in result["missing"]:
        print(f"no accuracy: {key}")


def _columns(row: Table) -> list[str]:
    return [f"{name} {row[name]:.1f}" for name in ("now", "past", "rest") if name in row]


def _line(budget: str, texts: Sequence[str]) -> str:
    head, fidelity, *rest = texts
    return f"{budget:>6} {head:14}{fidelity:>14}" + "".join(f"{text:>9}" for text in rest[:-1]) + f"{rest[-1]:>15}"


# -- page --------------------------------------------------------------------------------------------------------------


def page(result: Table) -> str:
    """The page, as Markdown."""
    head = PAGE_HEAD.format(
        machine=result["machine"],
        date=result["date"][:10],
        commit=result["commit"],
        processor=result["processor_s"],
    )
    again = ", ".join(result.get("remeasured", {}))
    head += f"Measured again after that, at the commits in the JSON's `remeasured`: {again}.\n" if again else ""
    met = result["frontier_beats_uniform"]
    systems = "".join(
        f"| {name} | {percent(row.get('now'))} | {percent(row.get('past'))} | {percent(row.get('accuracy'))} |\n"
        for name, row in result["systems"].items()
    )
    parts = [
        head,
        f"\nThe most accurate published or own method is above the plain choice at {met['met']} of {met['budgets']} "
        f"budgets, beyond chance at {met['beyond_chance']}; how far, and at which not, is said stage by stage.\n",
        f"\n## To compare with\n\n| | now | past | right |\n|---|---|---|---|\n{systems}",
        _short(result),
        *(_stage(result, stage) for stage in stages(result)),
        _faults(result),
    ]
    return "".join(parts)


def _short(result: Table) -> str:
    """The best of every budget, and what follows for the daemon, a line each."""
    lines = ["\n## In short\n", "| stage | budget | most right, of papers and our own | over the plain choice |"]
    lines.append("|---|---|---|---|")
    for stage, by_budget in result["best"].items():
        for budget, cell in by_budget.items():
            if cell["gain"] is not None:
                told = "beyond chance" if cell["verdict"] == "better" else "within chance"
                told = "worse" if cell["verdict"] == "worse" else told
                lines.append(f"| {stage} | {budget} | `{cell['method']}` | {_gain(cell['gain'])}, {told} |")
    lines += ["", "What follows for the daemon's defaults:", ""]
    lines += [f"- `{stage}`: {follows(found)}" for stage, found in result["defaults"].items()]
    return "\n".join(lines) + "\n"


def _stage(result: Table, stage: str) -> str:
    names = [f"{result['questions'].get(stage, 0)} questions on {', '.join(result['streams'].get(stage, []))}."]
    wide = (*COLUMNS, "kept", "in stillness", "events seen") if stage == "gate" else COLUMNS
    lines = ["", f"## {stage}", "", f"{HEADS[stage][0].upper()}{HEADS[stage][1:]}. {names[0]}", ""]
    lines += ["| budget | " + " | ".join(wide) + " |", "|---" * (len(wide) + 1) + "|"]
    for budget, rows in groups(result, stage).items():
        front = result["frontier"].get(stage, {}).get(budget, [])
        for row in rows:
            texts = cells(row)
            if stage == "gate":
                texts += [percent(_times(row.get(name))) for name in ("clip_kept", "clip_still", "clip_recall")]
            texts[0] = f"**`{texts[0]}`**" if row["method"] in front else f"`{texts[0]}`"
            lines.append(f"| {budget} | " + " | ".join(texts) + " |")
    if stage == "gate":
        lines += ["", "*kept*, *in stillness*, *events seen*: of real clips, in %; see `bench/gate.py`."]
    lines += ["", "Against the plain choice, at each budget:", "", *sentences(result, stage), ""]
    return "\n".join(lines + _half(result, stage))


def _times(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _half(result: Table, stage: str) -> list[str]:
    """The costs on the larger geometry, a line a method, a column a budget."""
    by_budget = groups(result, stage, "0.5b")
    budgets = [budget for budget in by_budget if budget not in ("all", "own")]
    if not budgets:
        return []
    methods = list(dict.fromkeys(row["method"] for budget in budgets for row in by_budget[budget]))
    lines = ["0.5B geometry, random weights: ms at the stage, tokens out, cosine.", ""]
    lines += ["| method | " + " | ".join(budgets) + " |", "|---" * (len(budgets) + 1) + "|"]
    for method in methods:
        own = [next((row for row in by_budget[budget] if row["method"] == method), None) for budget in budgets]
        lines.append(f"| `{method}` | " + " | ".join("" if row is None else _brief(row) for row in own) + " |")
    whole = by_budget.get("all", [])
    lines += [f"| `{row['method']}`, all | {_brief(row)} |" + " |" * (len(budgets) - 1) for row in whole]
    told = [
        f"{budget}: `{cell['method']}` {share(cell['cosine'])}, `uniform` {share(cell['uniform'])}"
        for budget, cell in result["nearest"].get(stage, {}).items()
        if cell["method"] is not None
    ]
    lines += ["", f"Nearest to the unreduced run there, by cosine: {'; '.join(told)}."] if told else []
    return [*lines, ""]


def _brief(row: Table) -> str:
    texts = [f"{number(row.get('ms'))} ms", number(row.get("tokens_out")), share(row.get("cosine"))]
    return ", ".join(text for text in texts if text)


def _faults(result: Table) -> str:
    lines = [f"- `{key}`: {why}" for key, why in result["failed"].items()]
    lines += [f"- `{key}`: not asked" for key in result["missing"] if key not in result["failed"]]
    return "\n## Not measured\n\n" + ("\n".join(lines) if lines else "Nothing: every row ran.") + "\n"


# -- picture -----------------------------------------------------------------------------------------------------------


def plot(result: Table, picture: Path) -> None:
    """Accuracy over cost, a dot a row, the frontier drawn, a panel a stage. Needs the extra `train` (matplotlib)."""
    from matplotlib.figure import Figure  # imported here: nothing else needs it

    names = stages(result)
    columns = min(2, len(names))
    figure = Figure(figsize=(6 * columns, 3.6 * -(-len(names) // columns)), layout="constrained")
    panels = list(figure.subplots(-(-len(names) // columns), columns, squeeze=False).flat)
    for panel, stage in zip(panels, names, strict=False):
        _panel(panel, result, stage)
    for spare in panels[len(names) :]:
        spare.axis("off")
    figure.suptitle(f"{result['model']}, {result['machine']}", fontsize=9)
    figure.savefig(picture)


def _panel(axes: Any, result: Table, stage: str) -> None:
    dots: list[tuple[float, float, str]] = []
    for place, (budget, rows) in enumerate(groups(result, stage).items()):
        known = [(cost_of(row), row.get("accuracy"), row["method"]) for row in rows]
        own = [(cost, right, name) for cost, right, name in known if cost is not None and right is not None]
        if not own:
            continue
        colour = "black" if budget == "all" else COLOURS[(place - 1) % len(COLOURS)]
        axes.scatter([x for x, _, _ in own], [y for _, y, _ in own], s=14, color=colour, label=budget)
        dots += own
    best: list[tuple[float, float, str]] = []
    for cost, right, name in sorted(dots, key=lambda dot: (dot[0], -dot[1])):
        if not best or right > best[-1][1]:
            best.append((cost, right, name))
    axes.step([x for x, _, _ in best], [y for _, y, _ in best], where="post", color="black", linewidth=0.8)
    for cost, right, name in best:
        axes.annotate(name, (cost, right), fontsize=6, xytext=(2, 3), textcoords="offset points")
    axes.set(title=stage, xlabel=COSTS.get(stage, "a frame, ms of one core"), ylabel="right, %")
    if dots:
        if stage in WIDE:
            axes.set_xscale("log")
            axes.tick_params(axis="x", which="minor", labelbottom=False)
        axes.legend(fontsize=6, title="budget", title_fontsize=6)


COSTS = {
    "gate": "share of the frames kept",
    "retain": "bytes held",
    "recall": "bytes that a question reads",
    "focus": "bytes that a question reads",
    "rules": "eight questions, ms of one core",
}


WIDE = ("gate", "retain", "recall")  # costs over more than a decade


def cost_of(row: Table) -> float | None:
    """What is drawn along the picture's axis: a whole frame's time where the stage changes that, else what is kept."""
    name = {"gate": "tokens_out", "retain": "bytes", "recall": "bytes", "focus": "bytes", "rules": "ms"}.get(
        row["stage"], "frame_ms"
    )
    value = row.get(name)
    return None if value is None else float(value)
