"""`python -m stream.train -c configs/train/tiny.yaml --out DIR`: train, resume, export."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch

from stream.train.loop import export, load_plan, train


def main() -> None:
    """Train a recipe and write a checkpoint directory."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("-c", "--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint, metrics and resumable state")
    parser.add_argument("--export", type=Path, help="where the finished checkpoint goes; default OUT/model")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 takes torch's own choice")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    model = train(load_plan(args.config), args.out)
    export(model, args.export or args.out / "model")


if __name__ == "__main__":
    main()
