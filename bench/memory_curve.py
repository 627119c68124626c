"""What is remembered, after how long, and what keeping it costs.

    python bench/memory_curve.py [--quick] [--carriers N] [--out FILE] [--part load|ages]

Two kinds of load. One: a month of one camera (`soak.py`), simulated carriers of the 0.5B shape through the real
archive at fast forward: commits, resident memory, disk, quota, recall over all of it. Two: watchbench (`accuracy.py`)
with the shipped model, real pictures of a rendered street through gate, bank, archive and recall: how many questions
are answered rightly by the age of what they are about, beside the bank alone, the last four frames, FIFO and uniform.

The month wants a machine that does nothing else, the questions only time: `--part` measures one of the two and takes
the other from `--out`.

The last line is JSON: {"bench", "commit_ms_p99", "recall_ms_p95", "rss_slope_mb_per_h", "accuracy_by_age", ..}.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import accuracy
import soak
from streams import AGES, FAMILIES
from where import commit, date, machine

from daemon import logs
from stream.errors import LongwatchError

SYSTEMS = ("window4", "hybrid", "recall", "daemon", "fifo", "uniform")
LIMITS = {"commit_ms_p99": 20.0, "recall_ms_p95": 60.0}
LEAST_RATIO = 0.9  # of the accuracy an hour back to that five seconds back


def by_age(args: argparse.Namespace) -> dict[str, Any]:
    """Watchbench, as far as it is about ages. Raises LongwatchError."""
    words = argparse.Namespace(
        checkpoint="tiny", bank=None, detail=[], systems=list(SYSTEMS), streams=None, quick=args.quick, threads=1
    )
    found = accuracy.run(words)
    names = [name for name, _, _ in AGES]
    return {
        "accuracy_by_age": {
            system: {name.removeprefix("age_"): row[name] for name in names if name in row}
            for system, row in found["systems"].items()
        },
        "questions_by_age": {name.removeprefix("age_"): found["counts"].get(name, 0) for name in names},
        "accuracy_all": {system: row["all"] for system, row in found["systems"].items()},
        "accuracy_by_family": {
            system: {name: row[name] for name in (*FAMILIES, "interference") if name in row}
            for system, row in found["systems"].items()
        },
        "absence_false_positive": found.get("absence_false_positive"),
        "seen_not_seen": found.get("seen_not_seen"),
        **{name: found[name] for name in ("model", "bank", "machine", "commit", "date")},
    }


def load(args: argparse.Namespace) -> dict[str, Any]:
    """The month through the archive."""
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        measured = soak.run(20_000 if args.quick else args.carriers, folder)
        return {**measured, "machine": machine(), "commit": commit(), "date": date()}
    finally:
        shutil.rmtree(folder)


def summary(ages: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """The JSON line; both parts are in it as they were measured."""
    row = ages["accuracy_by_age"]["daemon"]
    return {
        "bench": "memory_curve",
        **{name: measured[name] for name in ("commit_ms_p99", "recall_ms_p95", "rss_slope_mb_per_h")},
        "accuracy_by_age": ages["accuracy_by_age"],
        "ratio_1h_to_5s": round(row["1h"] / row["5s"], 3) if row.get("5s") and "1h" in row else None,
        "ages": ages,
        "load": measured,
    }


def show(result: dict[str, Any]) -> None:
    """Print what was measured."""
    ages, names = result["ages"], [name.removeprefix("age_") for name, _, _ in AGES]
    print(f"right in %, by the age of the evidence; {ages['model']}, {ages['bank']} carriers in the bank")
    print(f"{'':10}" + "".join(f"{age:>8}" for age in names) + f"{'all':>8}")
    print(f"{'questions':10}" + "".join(f"{ages['questions_by_age'][age]:>8}" for age in names))
    for name, row in ages["accuracy_by_age"].items():
        cells = (f"{100 * row[age]:.1f}" if age in row else "-" for age in names)
        print(f"{name:10}" + "".join(f"{cell:>8}" for cell in cells) + f"{100 * ages['accuracy_all'][name]:>8.1f}")
    print("\nright in %, by family")
    for name, row in ages["accuracy_by_family"].items():
        print(f"{name:10}" + "  ".join(f"{family} {100 * value:.1f}" for family, value in row.items()))
    ratio = result["ratio_1h_to_5s"]
    print(f"an hour back to five seconds back, daemon: {ratio:.2f} (at least {LEAST_RATIO})\n" if ratio else "")
    for name, value in result["load"].items():
        print(f"{name:28} {value}" + (f"   (at most {LIMITS[name]:g})" if name in LIMITS else ""))


def main(words: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20,000 carriers and a few streams: three minutes")
    parser.add_argument("--carriers", type=int, default=1_000_000, help="in the month; 11 KB of disk each")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the system's temporary folder")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parser.add_argument("--part", choices=("load", "ages"), help="measure this alone; the other is in --out")
    args = parser.parse_args(words)
    before = json.loads(args.out.read_text(encoding="utf-8")) if args.part else {}
    control = logs.setup("error")
    try:
        ages = before["ages"] if args.part == "load" else by_age(args)
    except LongwatchError as error:
        sys.exit(f"memory_curve: {error}")
    finally:
        control.close()
    measured = before["load"] if args.part == "ages" else load(args)
    result = summary(ages, measured)
    show(result)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
