"""`python -m daemon.methods_page` writes docs/methods.md, and docs/methods/STAGE.md for every stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from daemon.measured import Measured
from daemon.papers import STAGES, Entry, Shelved, papers, peers, published, shelf
from daemon.stage_page import stage_page

DOCS = Path(__file__).resolve().parents[1] / "docs"

_HEAD = """# Methods

A frame goes through stages, and so does a question. Every stage has a table of methods, most of them published
elsewhere for other models and here on a live stream; the configuration chooses one by its key:

```yaml
model:
  reduce: {{m3: {{dull: 1}}}}
```

[composing.md](composing.md) shows how to stack them. `longwatch check` names what is unknown, and what does not go
together. This page and those of the stages are made from the code: `python -m daemon.methods_page`.

| stage | decides | methods |
|---|---|---|
{stages}

## Where they come from

{counts}
Each method says how faithful it is:

| fidelity | means |
|---|---|
| `parity` | gives the results of the authors' code on the same arrays |
| `style` | the published rule; details differ, as said |
| `idea` | the idea only |
| `needs weights` | trained parts do the work: they are unpublished, or fit another model |
| `missing` | not here, for the reason given |
| `baseline` | no paper: the do-nothing, the random or the plain choice that every other method must beat |

No code was copied; *licence* is that of the authors' code, for those who want to read it.
{bench}"""

_BENCH = """
*Cost* is processor time of one core at the stage, for a frame or a question, over the budgets of `bench/methods.py` on
the 0.5B geometry (of gates, which see pictures alone, on any); *gain* is how many points of accuracy the shipped model
has with it above the plain choice (`uniform`, of gates `stride`) at the same budget, with the 95 % interval; where that
holds 0 there is no difference to speak of.{link}
"""


def pages() -> dict[Path, str]:
    """Every page that is made here, and its text."""
    return {DOCS / "methods.md": overview()} | {
        DOCS / "methods" / f"{stage.name}.md": stage_page(stage) for stage in STAGES
    }


def overview() -> str:
    """docs/methods.md."""
    here = published()
    stages = "\n".join(f"| [`{s.key}`](methods/{s.name}.md) | {s.about} | {len(list(shelf([s])))} |" for s in STAGES)
    asked = papers()
    head = _HEAD.format(stages=stages, counts=_counts(asked, here), bench=_bench())
    known = Measured.read()
    rows = [_row(entry, here.get(entry.link, ()), known) for entry in asked]
    others = [_row(entry, here.get(entry.link, ()), known) for entry in peers()]
    return "\n".join([head, *_table(rows), "\n## Systems that do the same job\n", *_table(others), ""])


def _counts(asked: Sequence[Entry], here: Mapping[str, Sequence[Shelved]]) -> str:
    """How many papers there are of each fidelity."""
    order = ("parity", "style", "idea", "needs weights", "missing")
    counted: Counter[str] = Counter()
    for entry in asked:
        own: list[str] = [item.paper.fidelity for item in here.get(entry.link, ())]
        counted[min(own, key=order.index) if own else entry.absent] += 1
    parts = ", ".join(f"{counted[fidelity]} `{fidelity}`" for fidelity in order)
    return f"Of {len(asked)} papers, by the most faithful method that is here of each: {parts}."


def _bench() -> str:
    """How to read the two columns of the bench, and where all of it is."""
    whole = DOCS / "methods_bench.md"
    return _BENCH.format(link=f" All of it: [{whole.name}]({whole.name})." if whole.exists() else "")


def _table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| paper | here | fidelity | licence | cost | gain | how ours differs, or why it is not here |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _row(entry: Entry, found: Sequence[Shelved], known: Measured) -> tuple[str, ...]:
    """A paper: the methods that are its, or why there is none."""
    name = f"[{entry.name}]({entry.link})"
    if not found:
        return name, f"({entry.stage})", f"`{entry.absent}`", entry.licence, "", "", entry.why
    fidelities = dict.fromkeys(f"`{item.paper.fidelity}`" for item in found)
    differs = [
        (f"`{_label(item)}`: " if len(found) > 1 else "") + item.paper.differs.removesuffix(".")
        for item in found
        if item.paper.differs
    ]
    costs = [known.cost(item.stage.name, item.name) for item in found]
    gains = [known.gain(item.stage.name, item.name) for item in found]
    places = "<br>".join(map(_place, found))
    return (
        *(name, places, ", ".join(fidelities), entry.licence),
        *("<br>".join(cells) if any(cells) else "" for cells in (costs, gains)),
        "<br>".join(differs),
    )


def _label(item: Shelved) -> str:
    return item.name if item.page else f"{item.stage.name}: {item.name}"


def _place(item: Shelved) -> str:
    """Where a method is described."""
    return f"[`{_label(item)}`]({item.page or f'methods/{item.stage.name}.md#{item.name}'})"


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
