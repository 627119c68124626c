"""What does each part of the training buy? Short trainings from one start that differ in one thing, measured alike.

    python bench/ablation.py --begin STATE.pt|DIR [--steps 200] [--clips N] [--streams 24] [--only NAME ...]

Every variant goes on from the weights in `--begin`, best those before the stage `remember`, for `--steps` steps of that
stage with `--clips` clips a step, with the same seed and the same streets; then watchbench (`accuracy.py`) measures it
on fresh streams, with the memory that it was trained for. All have the same budget, too small to be good: read the
differences, not the levels. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm
from where import commit, date, machine

from stream.train.data import ALL_FRAMES
from stream.train.loop import Plan, Stage, export, load_plan, train

ROOT = Path(__file__).resolve().parents[1]
UNBOUNDED = (64,)  # more carriers than any clip has frames: nothing is ever evicted in training
VARIANTS: dict[str, dict[str, Any]] = {  # name -> what differs from the recipe
    "recipe": {},
    "no carrier mask": {"detail": (ALL_FRAMES,)},  # questions always read every frame in full
    "no evictions": {"carriers": UNBOUNDED},
    "spaced": {"positions": "spaced"},
    "time": {"positions": "time"},
    "drop": {"retain": ({"adjacent": {"when_full": "drop"}},)},
    "merge": {"retain": ({"adjacent": {"when_full": "merge"}},)},
    "k = 0": {"detail": (0,)},
    "k = 1": {"detail": (1,)},
    "k = 4": {"detail": (4,)},
    "no pointer": {"point": 0.0},
}
SYSTEMS = {  # name -> the systems of watchbench that it was trained for; the others: carriers and hybrid
    "drop": ["drop"],
    "merge": ["merge"],
    "k = 0": ["carriers"],
    "k = 1": ["detail1"],
    "k = 4": ["hybrid"],
}
SHOWN = ("now", "needle", "order", "before_after", "count", "when", "absence", "all")


def variant(plan: Plan, stage: Stage, changes: Mapping[str, Any]) -> Plan:
    """The recipe of one variant: `stage` with `changes`."""
    of_data = {key: value for key, value in changes.items() if key in ("detail", "carriers", "retain")}
    of_stage = {key: value for key, value in changes.items() if key == "point"}
    short = stage.model_copy(
        update={
            "warmup": min(stage.warmup, stage.steps // 4),
            "data": replace(stage.data, **of_data),
            **of_stage,
        }
    )
    bank = max(stage.data.carriers)  # what all are measured with, whatever they were trained for
    positions = changes.get("positions", plan.positions)
    return plan.model_copy(update={"positions": positions, "carriers": bank, "stages": {"remember": short}})


def measure(checkpoint: Path, systems: Sequence[str], streams: int) -> dict[str, dict[str, float]]:
    """Watchbench's shares for a checkpoint, by system."""
    command = [sys.executable, "bench/accuracy.py", "--checkpoint", str(checkpoint), "--streams", str(streams)]
    command += ["--detail", "1"] if "detail1" in systems else []
    command += ["--systems", *systems] if systems != ["detail1"] else ["--systems", "carriers"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])["systems"]
    return {name: found[name] for name in systems}


def show(rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """One line a variant and system, in percent."""
    print(f"{'trained with':18}{'asked with':12}" + "".join(f"{name:>13}" for name in SHOWN))
    for name, systems in rows.items():
        for system, cells in systems.items():
            shares = "".join(f"{100 * cells.get(family, float('nan')):13.1f}" for family in SHOWN)
            print(f"{name:18}{system:12}{shares}")


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "train" / "tiny.yaml")
    parser.add_argument("--begin", type=Path, required=True, help="state.pt or checkpoint that all variants start from")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--clips", type=int, default=6, help="clips a step; the recipe has twice as many")
    parser.add_argument("--streams", type=int, default=24, help="streams that watchbench draws, of all kinds together")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--folder", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    plan = load_plan(args.config)
    stage = plan.stages["remember"]
    few = replace(stage.data, clips=args.clips)
    stage = stage.model_copy(update={"steps": args.steps, "data": few})
    place = {"machine": machine(), "commit": commit(), "date": date()}
    budget = {"steps": args.steps, "clips": args.clips, "streams": args.streams}
    rows: dict[str, dict[str, dict[str, float]]] = {}
    result = {"bench": "ablation", **budget, "variants": rows, **place}
    for name in tqdm(args.only, desc="variants", file=sys.stderr):
        folder = args.folder / name.replace(" ", "-")
        model = train(variant(plan, stage, VARIANTS[name]), folder, args.begin)
        export(model, folder / "model")
        rows[name] = measure(folder / "model", SYSTEMS.get(name, ["carriers", "hybrid"]), args.streams)
        if args.out:  # after each: hours of work should not hang on the last of them
            args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    show(rows)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
