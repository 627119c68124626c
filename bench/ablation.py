"""What does each part of the training buy? Short trainings from one start that differ in one thing, measured alike.

    python bench/ablation.py --begin runs/tiny/state.pt [--steps 200] [--streams 8] [--only NAME ...] [--out FILE]

Every variant goes on from the weights in `--begin` for `--steps` steps of the recipe's stage `remember`, with the same
seed and the same streets; then watchbench (`accuracy.py`) measures it on fresh streams. All have the same budget, too
small to be good: read the differences, not the levels. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Mapping
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
SHOWN = ("now", "needle", "order", "before_after", "count", "when", "absence", "all")


def variant(plan: Plan, stage: Stage, steps: int, changes: Mapping[str, Any]) -> Plan:
    """The recipe of one variant: `stage` for `steps` steps with `changes`."""
    of_data = {key: value for key, value in changes.items() if key in ("detail", "carriers", "retain")}
    of_stage = {key: value for key, value in changes.items() if key == "point"}
    short = stage.model_copy(
        update={
            "steps": steps,
            "warmup": min(stage.warmup, steps // 4),
            "data": replace(stage.data, **of_data),
            **of_stage,
        }
    )
    positions = changes.get("positions", plan.positions)
    return plan.model_copy(update={"positions": positions, "stages": {"remember": short}})


def measure(checkpoint: Path, streams: int) -> dict[str, Any]:
    """Watchbench's result for a checkpoint."""
    command = [sys.executable, "bench/accuracy.py", "--checkpoint", str(checkpoint), "--streams", str(streams)]
    command += ["--systems", "carriers", "hybrid"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(rows: Mapping[str, Mapping[str, float]]) -> None:
    """One line a variant, in percent."""
    print(f"{'':18}" + "".join(f"{name:>13}" for name in SHOWN))
    for name, cells in rows.items():
        print(f"{name:18}" + "".join(f"{100 * cells.get(family, float('nan')):13.1f}" for family in SHOWN))


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "train" / "tiny.yaml")
    parser.add_argument("--begin", type=Path, required=True, help="state.pt that all variants start from")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--streams", type=int, default=24, help="streams that watchbench draws, of all kinds together")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--folder", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    plan = load_plan(args.config)
    stage = plan.stages["remember"]
    rows: dict[str, dict[str, float]] = {}
    for name in tqdm(args.only, desc="variants", file=sys.stderr):
        folder = args.folder / name.replace(" ", "-")
        model = train(variant(plan, stage, args.steps, VARIANTS[name]), folder, args.begin)
        export(model, folder / "model")
        systems = measure(folder / "model", args.streams)["systems"]
        rows[name] = systems["hybrid" if not name.startswith("k = 0") else "carriers"]
    show(rows)
    place = {"machine": machine(), "commit": commit(), "date": date()}
    result = {"bench": "ablation", "steps": args.steps, "streams": args.streams, "variants": rows, **place}
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
