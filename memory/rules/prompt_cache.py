"""A question's words are read once, for all frames of all cameras; of each frame only its last token is read.

    once          is -> there -> a -> red -> car -> ?       a module: its tokens read nothing but each other
    every frame   system, carriers, newest frame + module <-- last token

Attention knows distances only, and a module reads nothing that moves: un-rotated keys and values serve wherever it
stands. A frame costs one token a question, however long that is. The checkpoint must have been trained for it
(`Recipe.modules`, and its card says so): in any other the words look for what they ask about and do not find it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from memory.rules import Reader, Rules
from memory.view import MemoryView
from stream.attention import Step
from stream.kv import NO, Past
from stream.model import Model
from stream.policy import Paper
from stream.rope import Rope
from stream.rule import causal

MODULES = 4096  # of one checkpoint, whose keys and values are kept
SETS = 16  # of questions that stand packed: one for each camera that has its own

Words = tuple[int, ...]


class Alone:
    """A store without a past: each row of a batch reads itself. Afterwards it holds un-rotated keys and values."""

    def __init__(self, like: Tensor) -> None:
        self._like = like  # dtype and device of masks
        self._keys: list[Tensor] = []  # of each layer [B, Hkv, T, Dh]
        self._values: list[Tensor] = []

    @property
    def fixed(self) -> Hashable:
        """See Store: it is used once."""
        return None

    def begin(self, count: int) -> Tensor | None:
        """See Store."""
        return self._like.new_zeros(count, count).masked_fill(~causal(count).to(self._like.device), NO)[None, None]

    def put(self, layer: int, key: Tensor, turned: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See Store."""
        self._keys.append(key)
        self._values.append(value)
        return turned, value

    def still(self) -> Alone:
        """See Store."""
        return self

    def finish(self) -> None:
        """See Store."""

    def read(self) -> tuple[Tensor, Tensor]:
        """Un-rotated keys and values [L, B, Hkv, T, Dh]."""
        return torch.stack(self._keys), torch.stack(self._values)


@dataclass(slots=True)
class Pack:
    """Modules of m questions side by side, padded to the W tokens of the longest."""

    keys: Tensor  # [L, m, Hkv, W, Dh] un-rotated
    values: Tensor  # [L, m, Hkv, W, Dh]
    mask: Tensor  # [m, W] 0 or -inf
    counts: Tensor  # int64 [m] tokens of each: where its last token stands
    embeds: Tensor  # [1, m, D] of the last tokens
    _turned: tuple[Tensor, Tensor] | None = None  # positions [W], and the keys turned to them

    def at(self, where: Tensor, rope: Rope) -> Tensor:
        """The keys turned to positions `where` [W]; those of the newest positions are kept."""
        if self._turned is None or not torch.equal(self._turned[0], where):
            rotation = rope.at(where[None].to(self.keys.device), self.keys)
            self._turned = where, rotation(self.keys.flatten(0, 1)).view_as(self.keys)
        return self._turned[1]


@dataclass(slots=True)
class Known:
    """What one checkpoint has read; what was used last is dropped last."""

    modules: dict[Words, tuple[Tensor, Tensor]] = field(default_factory=dict)  # keys, values [L, Hkv, w, Dh]
    packs: dict[tuple[Words, ...], Pack] = field(default_factory=dict)

    def pack(self, model: Model, rules: tuple[Words, ...]) -> Pack:
        """Of these rules; words are read that are not known yet. Raises ValueError where a rule is empty."""
        if not all(rules):
            raise ValueError(f"rule {rules.index(())} of {len(rules)} has no tokens")
        found = self.packs.pop(rules, None) or self._pack(model, rules)
        self.packs[rules] = found
        _bound(self.packs, SETS)
        _bound(self.modules, MODULES)
        return found

    def _pack(self, model: Model, rules: tuple[Words, ...]) -> Pack:
        every = [rule[:-1] for rule in rules]
        self._read(model, sorted({words for words in every if words not in self.modules}))
        for words in dict.fromkeys(every):
            self.modules[words] = self.modules.pop(words)  # used last
        modules = [self.modules[words] for words in every]
        counts = torch.tensor([len(words) for words in every])
        keys, values = (_padded([module[part] for module in modules], int(counts.max())) for part in (0, 1))
        past = torch.arange(keys.shape[3]) >= counts[:, None]
        mask = torch.zeros(past.shape).masked_fill(past, NO).to(keys.device)
        return Pack(keys, values, mask, counts, model.embed(torch.tensor([[rule[-1] for rule in rules]])))

    def _read(self, model: Model, fresh: Sequence[Words]) -> None:
        """Each by itself: padded at the end, which nothing before it reads."""
        if not fresh:
            return
        width = max(1, max(map(len, fresh)))
        embeds = model.embed(torch.tensor([[*words, *[0] * (width - len(words))] for words in fresh]))
        store = Alone(embeds)
        model.forward_all([Step(embeds, torch.arange(width, dtype=torch.float32)[None], store)])
        keys, values = store.read()
        for row, words in enumerate(fresh):
            own = slice(0, len(words))
            self.modules[words] = keys[:, row, :, own].clone(), values[:, row, :, own].clone()


def _bound(kept: dict[Any, Any], most: int) -> None:
    """What was used longest ago leaves."""
    for oldest in list(kept)[:-most]:
        del kept[oldest]


def _padded(parts: Sequence[Tensor], width: int) -> Tensor:
    """m times [L, Hkv, w, Dh] -> [L, m, Hkv, W, Dh]."""
    return torch.stack([torch.nn.functional.pad(part, (0, 0, 0, width - part.shape[2])) for part in parts], dim=1)


class Tails:
    """The last tokens of m rules side by side (`stream.attention.Reading`): each reads what is remembered, its own
    module and itself."""

    def __init__(self, past: Past, pack: Pack, where: Tensor, rope: Rope) -> None:
        """`past` with the system prompt; `where` [W + 1]: positions from a rule's first token on."""
        self._past = rope.at(past.positions[None].to(past.keys.device), past.keys)(past.keys), past.values
        self._modules = pack.at(where[:-1], rope), pack.values
        self._mask = pack.mask[None, None]
        self._turn = rope.at(where[pack.counts][None].to(past.keys.device), past.keys)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See Reading; [1, heads, m, Dh]."""
        far_keys, far_values = (part[layer][:, None] for part in self._past)  # [Hkv, 1, P, Dh]
        near_keys, near_values = (part[layer] for part in self._modules)  # [m, Hkv, W, Dh]
        asked = self._turn(query)[0].unflatten(0, (key.shape[1], -1))  # type: ignore[no-untyped-call]  # [Hkv, g, m, Dh]
        far = asked @ far_keys.transpose(2, 3)
        near = (asked.permute(2, 0, 1, 3) @ near_keys.transpose(2, 3)).permute(1, 2, 0, 3)
        own = (asked * self._turn(key)[0][:, None]).sum(-1, keepdim=True)
        scores = torch.cat((far * scale, near * scale + self._mask, own * scale), -1)
        weights = scores.float().softmax(-1).to(value.dtype)
        to_far, to_near, to_own = torch.split(weights, [far.shape[3], near.shape[3], 1], -1)
        found: Tensor = to_far @ far_values + to_own * value[0][:, None]
        found = found + (to_near.permute(2, 0, 1, 3) @ near_values).permute(1, 2, 0, 3)
        return found.flatten(0, 1)[None]


@dataclass(frozen=True)
class PromptCache(Rules):
    """Words once, then one token a rule."""

    _known: WeakKeyDictionary[Model, Known] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )
    paper: ClassVar[Paper] = Paper(
        title="Prompt Cache: Modular Attention Reuse for Low-Latency Inference",
        link="https://arxiv.org/abs/2311.04934",
        fidelity="style",
        differs="the modules are the questions, and what changes stands before them, the frames; one token reads both, "
        "in weights that were trained for it",
    )

    @torch.inference_mode()
    def scores(self, reader: Reader, view: MemoryView, rules: Sequence[Sequence[int]]) -> Tensor:
        """See Rules."""
        model = reader.model
        pack = self._known.setdefault(model, Known()).pack(model, tuple(tuple(rule) for rule in rules))
        where = reader.positions.text(view.count, pack.keys.shape[3] + 1)
        tails = Tails(Past.join([model.system(), view.past]), pack, where, model.rope)
        return model.logits(model.run(pack.embeds, tails)[0]).log_softmax(-1)
