"""Does the demo answer right on other streets? Its five questions on many seeds, replayed without network.

The film, the questions and what is right come from the demo itself (`daemon/demo/show.py`), the answers from
`daemon/replay.py`: the same gate, engine and memory. Prints every wrong answer, then one JSON line:
{"bench": "demo_seeds", "n": questions, "right": share, "whole": seeds with all five right, ..}.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm
from where import commit, date, machine

from daemon import logs
from daemon.core import Core, build
from daemon.demo.show import Prompt, Show, prompts
from daemon.replay import CAMERA, Ask, Replay, replay
from daemon.settings import Settings, parse
from stream.errors import LongwatchError


def film(seed: int, folder: Path) -> tuple[Path, Any]:
    """The demo's film of a seed and the truth about it, drawn by the demo's own hand. Raises DemoError."""
    folder.mkdir()
    truth = Show(seed, "", once=True)._draw(folder)
    return folder / "street.mp4", truth


def right(prompt: Prompt, text: str) -> bool:
    """Whether an answer is what the street showed; case and a full stop do not matter."""
    return text.strip().rstrip(".").lower() == prompt.truth.lower()


def one(core: Core, settings: Settings, path: Path, asked: Sequence[Prompt]) -> list[tuple[Prompt, str]]:
    """The demo's questions with their answers. Raises CameraError."""
    ordered = sorted(asked, key=lambda prompt: prompt.at_s)  # as they will be answered
    asks = [Ask(prompt.at_s, prompt.text) for prompt in ordered]
    answers = [answer.text for answer in replay(core, settings, Replay(path, asks))]
    return list(zip(ordered, answers, strict=True))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Everything but the last line. Raises LongwatchError."""
    settings = parse({"cameras": {CAMERA: {"url": "file"}}, "model": {"path": args.checkpoint}}, "--checkpoint")
    core = build(settings)
    marks: list[list[bool]] = []
    with tempfile.TemporaryDirectory(prefix="longwatch-seeds-") as folder:
        for seed in tqdm(range(args.first, args.first + args.seeds), desc="seeds", file=sys.stderr):
            path, truth = film(seed, Path(folder) / str(seed))
            given = one(core, settings, path, prompts(truth))
            marks.append([right(prompt, text) for prompt, text in given])
            for prompt, text in given:
                if not right(prompt, text):
                    tqdm.write(
                        f"seed {seed}, {prompt.at_s:4.1f} s: {prompt.text} > {text} (the street: {prompt.truth})"
                    )
    every = [mark for seed in marks for mark in seed]
    return {
        "bench": "demo_seeds",
        "n": len(every),
        "right": round(sum(every) / len(every), 4),
        "seeds": len(marks),
        "whole": sum(all(seed) for seed in marks),
        "model": core.model.geometry.name,
        "machine": machine(),
        "commit": commit(),
        "date": date(),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tiny", help="`tiny`, a directory or a hub id")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args(words)
    control = logs.setup("error")
    try:
        result = run(args)
    except LongwatchError as error:
        sys.exit(f"demo_seeds: {error}")
    finally:
        control.close()
    share = 100 * result["right"]
    print(f"{result['whole']} of {result['seeds']} seeds all right, {share:.0f} % of {result['n']} answers")
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
