"""What a method costs at its stage: processor time of a frame or a question, one core, on a real geometry.

Weights are random; what they cost does not depend on them, and how far the last hidden state turns says only how much
of the input is left. Of the large geometry a few pictures are seen by the tower once, and their tokens serve all rows
but those of the tower. Methods that look back are given as many frames as they look at, made of these with some noise.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from methods_math import cosine
from methods_play import Known
from methods_rows import FAULTS, RECENT, Row
from torch import Tensor

from daemon.core import Core
from daemon.session import Session
from memory.focus import Tokens
from memory.recall import Asked, Look
from memory.recall import Rows as Shelved
from memory.retain import Rows as Held
from stream.model import Model, tiny
from stream.model.llava_onevision import LlavaOnevision
from stream.positions import TABLE
from stream.reduce import Seen
from stream.stages import Recorder
from stream.tap import Tap
from stream.tower import Patches, Thinning, Tower
from stream.types import Frame, Span, VisualTokens
from tests.geometry import random_net
from tests.models import WORDS

SPANS = {"tower": ("tower",), "reduce": ("carrier",), "carrier": ("carrier", "language"), "prefill": ("language",)}
FILED = 512  # rows of the archive that a search looks at
TURNS = 7  # times that a choice is made
ROUNDS = {"tiny": 5, "0.5b": 1}  # rows take turns: a machine is not as fast at every moment
NOISE = 0.02  # of a token's own size, on frames that stand for earlier ones
QUESTION = "what passed first?"

Measured = dict[str, float | None]


@dataclass(frozen=True)
class Counted:
    """A tower method that notes how many of a frame's patches are left."""

    method: Tower
    left: list[float]

    def start(self, embeddings: Tensor, grid: tuple[int, int], blocks: int) -> Thinning | None:
        """See Tower."""
        thinning = self.method.start(embeddings, grid, blocks)
        if thinning is None:
            self.left.append(float(len(embeddings)))
            return None
        self.left.append(float(len(embeddings)))
        return Counting(thinning, self.left)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)


@dataclass(frozen=True)
class Counting:
    """See Counted: the last entry is what is left so far."""

    thinning: Thinning
    left: list[float]

    def thin(self, block: int, patches: Patches, tap: Tap) -> Patches:
        """See Thinning."""
        found = self.thinning.thin(block, patches, tap)
        self.left[-1] = float(len(found.feats))
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.thinning, name)


def random_model(geometry: str) -> LlavaOnevision:
    """The geometry with random weights."""
    return LlavaOnevision(random_net(geometry), tiny.tokenizer(WORDS), tiny.CARD, f"random {geometry}")


def pictures(px: int, count: int) -> list[Frame]:
    """Noise in large patches: pictures of which the gate says that much happened."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(count):
        coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        image = np.kron(coarse, np.ones((-(-px // 12), -(-px // 12), 1), dtype=np.uint8))[:px, :px]
        found.append(Frame("street", index, 0, float(index), float(index), np.ascontiguousarray(image), score=10.0))
    return found


class Costs:
    """The rows of one geometry, one after the other, on the same model and pictures."""

    def __init__(self, geometry: str, frames: int, model: Model | None = None) -> None:
        self.geometry, self.frames = geometry, frames
        self.plain: Model = random_model(geometry) if model is None else model
        self.model = Known(self.plain)
        self.pictures = pictures(self.plain.geometry.image_px, frames)
        self.whole: dict[str, list[float]] = {}  # by stage: the hidden state of the unreduced run

    def see(self, cores: Iterable[Core]) -> None:
        """Every picture once, with all the attention that the reducers of `cores` read."""
        depth = self.plain.geometry.tower_blocks
        self.model = Known(self.plain, sorted({block for core in cores for block in core.encoder.reduce.blocks(depth)}))
        for frame in self.pictures:
            self.model.encode(frame.image[None])

    def measure(self, row: Row, core: Core) -> Measured:
        """Costs of one row; `core` was built for any model. Rows of a stage begin with the one that changes nothing."""
        scheme = TABLE["compact"](len(self.plain.system()), self.plain.geometry.visual)
        core = replace(core, policy=replace(core.policy, positions=scheme))
        if row.stage in SPANS:
            return self.frame_stage(row, core)
        return {"retain": self.retain, "recall": self.recall, "focus": self.focus}[row.stage](core)

    @torch.inference_mode()
    def frame_stage(self, row: Row, core: Core) -> Measured:
        """Stages that a frame goes through."""
        recorder, left = Recorder(clock_ns=time.process_time_ns), list[float]()
        model = self.plain if row.stage == "tower" else self.model
        tower = core.encoder.tower
        encoder = replace(core.encoder, model=model, stages=recorder)
        if tower is not None and row.stage == "tower":
            encoder = replace(encoder, tower=Counted(tower, left))
        self._look_back(encoder.reduce)
        bank = replace(core, encoder=encoder).bank("street")
        took, whole, tokens, tails = [], [], [], []
        shown = self.pictures if model is self.model or self.geometry == "tiny" else self.pictures[:1]
        for frame in shown:
            begun = len(recorder.spans)
            carrier = encoder.absorb([bank.work(frame)])[0]
            bank.add(carrier)
            spans = {span.name: span.lasted_ns / 1e6 for span in recorder.spans[begun:]}
            took.append(sum(spans[name] for name in SPANS[row.stage]))
            whole.append(sum(spans[name] for name in ("tower", "carrier", "rotate", "language")))  # tower: see Known
            tokens.append(len(carrier.detail))
            tails.append(1 + (0 if carrier.companions is None else len(carrier.companions)))
        geo = self.plain.geometry
        patches = float(_patches(self.plain))
        kept = {"tower": statistics.fmean(left or [patches]), "carrier": statistics.fmean(tails)}
        out = kept.get(row.stage, statistics.fmean(tokens))
        size = geo.carrier_bytes if row.stage != "tower" else 4 * self._tower_width()
        view = bank.fork(now_s=shown[-1].wall_s)
        return {
            "tokens_in": patches if row.stage == "tower" else float(geo.visual),
            "tokens_out": out,
            "ms": _median(took),
            "frame_ms": _median(whole),
            "bytes": out * size,
            "cosine": self._cosine(row, core, [view]),
        }

    def _look_back(self, chain: Any) -> None:
        """What a method that looks back has seen before the first picture."""
        back = max((method.window for method in chain.methods), default=1) - 1
        if back < 1:
            return
        blocks = chain.blocks(self.plain.geometry.tower_blocks)
        rng = torch.Generator().manual_seed(0)
        for number in range(back):
            frame = self.pictures[number % len(self.pictures)]
            tokens = self.model.encode(frame.image[None], None, blocks)[0]
            noise = torch.randn(tokens.feats.shape, generator=rng).to(tokens.feats)
            near = VisualTokens(tokens.feats * (1 + NOISE * noise), tokens.grid, tokens.places, tokens.taps)
            chain.reduce(Seen(near, replace(frame, index=-back + number)))

    def _cosine(self, row: Row, core: Core, views: list[Any]) -> float:
        """The question's last hidden state against that of the stage's first row."""
        ids = self.plain.question_ids(QUESTION)
        session = Session(self.plain, core.policy.positions, views, ids, 1)
        hidden = self.plain.forward_all([session.ask()])[0][0, -1].float().tolist()
        return cosine(hidden, self.whole.setdefault(row.stage, hidden))

    def _tower_width(self) -> int:
        return int(self.plain.net.config.vision_config.hidden_size)  # type: ignore[attr-defined]

    def retain(self, core: Core) -> Measured:
        """Who leaves a full bank."""
        geo, size = self.plain.geometry, core.policy.budget.carriers
        rng = torch.Generator().manual_seed(0)
        digests = torch.randn(size + 1, geo.width, generator=rng)
        spans = [Span(float(at), float(at)) for at in range(size + 1)]
        held = Held(digests, spans, range(size + 1), 4 * size)
        ms = _timed(lambda: core.policy.retain.choose(held, rng))
        bytes_held = size * (geo.carrier_bytes + geo.width * geo.dtype.itemsize)
        return {
            "tokens_in": size + 1.0,
            "tokens_out": float(size),
            "ms": ms,
            "bytes": float(bytes_held),
            "cosine": None,
        }

    def recall(self, core: Core) -> Measured:
        """What a question reads of a bank and an archive."""
        geo, rng = self.plain.geometry, torch.Generator().manual_seed(0)
        room = core.policy.budget.carriers + core.recalled
        held = core.policy.budget.carriers
        count = FILED + held
        rows = Shelved(
            frames=range(count),
            spans=[Span(float(at), float(at)) for at in range(count)],
            held=[at >= FILED for at in range(count)],
            digests=torch.randn(count, geo.width, generator=rng),
            keys=torch.randn(geo.layers, geo.kv_heads, count, geo.head_width, generator=rng),
        )
        asked = Asked(QUESTION, self._look(rng))
        ms = _timed(lambda: core.recall.groups(asked, rows, room))
        read = min(room, count)
        return {
            "tokens_in": float(count),
            "tokens_out": float(len(core.recall.groups(asked, rows, room))),
            "ms": ms,
            "bytes": float(read * geo.carrier_bytes),
            "cosine": None,
        }

    def focus(self, core: Core) -> Measured:
        """What a question reads of recent visual tokens."""
        geo, rng = self.plain.geometry, torch.Generator().manual_seed(0)
        count = RECENT * geo.visual
        shape = (geo.layers, geo.kv_heads, count, geo.head_width)
        tokens = Tokens(
            torch.randn(shape, generator=rng),
            torch.randn(shape, generator=rng),
            torch.arange(count) // geo.visual,
            torch.arange(count) % geo.visual,
            geo.grid,
        )
        asked, sight = Asked(QUESTION, self._look(rng)), core.sight
        room = count if sight is None else sight.room
        if sight is None:
            return {
                "tokens_in": count,
                "tokens_out": count,
                "ms": 0.0,
                "bytes": count * geo.carrier_bytes,
                "cosine": 1.0,
            }
        ms = _timed(lambda: sight.method.select(asked, tokens, room))
        out = len(sight.method.select(asked, tokens, room).rows)
        return {"tokens_in": count, "tokens_out": out, "ms": ms, "bytes": out * geo.carrier_bytes, "cosine": None}

    def _look(self, rng: torch.Generator) -> Look:
        """What a question might have looked for."""
        geo = self.plain.geometry
        heads = int(self.plain.net.config.text_config.num_attention_heads)  # type: ignore[attr-defined]
        queries = torch.randn(geo.layers, heads, geo.head_width, generator=rng)
        return Look(queries, queries, torch.randn(geo.width, generator=rng), 0.2, None)


def _patches(model: Model) -> int:
    vision = model.net.config.vision_config  # type: ignore[attr-defined]
    return int(vision.image_size // vision.patch_size) ** 2


def _timed(work: Callable[[], Any]) -> float:
    """Median processor time of a call, ms; the first one warms up."""
    work()
    took = []
    for _ in range(TURNS):
        began_s = time.process_time()
        work()
        took.append(1000 * (time.process_time() - began_s))
    return statistics.median(took)


def _median(took: Sequence[float]) -> float:
    """The first is left out where there are others: it warms up."""
    return statistics.median(took[1:] or took)


def _middle(tries: Sequence[Measured], name: str) -> float:
    """The median of a number over several tries."""
    return statistics.median(one[name] or 0.0 for one in tries)


def left(method: Tower, model: Model, frame: Frame) -> float:
    """Share of a frame's patches that a tower method leaves."""
    found: list[float] = []
    model.encode(frame.image[None], Counted(method, found))
    return found[-1] / _patches(model)


def measured(
    costs: Costs, rows: Sequence[Row], cores: Mapping[str, Core]
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Costs of rows by key, and why the others have none."""
    found: dict[str, Measured] = {}
    failed: dict[str, str] = {}
    if any(row.stage in SPANS and row.stage != "tower" for row in rows):
        costs.see(cores[row.key] for row in rows)
    tries: dict[str, list[Measured]] = {row.key: [] for row in rows}
    for _ in range(ROUNDS[costs.geometry]):
        for row in rows:
            try:
                tries[row.key].append(costs.measure(row, cores[row.key]))
            except FAULTS as error:
                failed[row.key] = f"{type(error).__name__}: {error}"[:300]
    for key, own in tries.items():
        if key not in failed:
            found[key] = own[0] | {name: _middle(own, name) for name in ("ms", "frame_ms") if name in own[0]}
    return found, failed
