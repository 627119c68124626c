"""The whole life of a batch of clips in one forward: frames and questions read the bank as it was at their moment.

    sequence  [clip 0: system S, frame 0: N visual, carrier, ..., frame F-1] ... [clip B-1] [text of all questions]
    frame     reads  system | M slots of its own moment | itself, causal
    question  reads  system | M slots of its own moment | full detail of k frames | itself, causal
    module    reads  itself, causal: words of a standing question that are read once for all frames

A slot is a mix of carriers (`rehearsal.py`): one of them, or a weighted mean after merges. Keys are mixed before they
are rotated, as the bank does. Nothing else is read, so attention costs F (N+1) (S+M+N+1) a clip and not the square of
its length: a gather instead of a mask. Text stands without padding in the sequence, which saves a third of all
products, and is padded for attention only. The rule is the one of `stream/rule.py`; tests hold the result against the
real bank.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stream.model.llava_onevision import LlavaOnevision
from stream.rope import Rope, Rotation
from stream.types import Pointer


@dataclass(frozen=True, slots=True)
class Shelves:
    """`rehearsal.Shelf` of a batch: X moments in each of B clips (X = F frames, or Q questions)."""

    mix: Tensor  # float32 [B, X, M, F]
    where: Tensor  # float32 [B, X, M]
    valid: Tensor  # bool [B, X, M]


@dataclass(frozen=True, slots=True)
class Detail:
    """What questions read in full; k may be 0."""

    frame: Tensor  # int64 [B, Q, k], -1 for none
    where: Tensor  # float32 [B, Q, k, N]
    slot: Tensor  # int64 [B, Q, k] the carrier each frame's attention counts for


@dataclass(frozen=True, slots=True)
class Script:
    """Everything that positions and masks of a batch follow from."""

    system: int  # S
    visual: int  # N
    frames: Shelves  # X = F
    frames_where: Tensor  # float32 [B, F, N+1]
    questions: Shelves  # X = Q
    detail: Detail
    text_where: Tensor  # float32 [B, Q, L]
    text_real: Tensor  # bool [B, Q, L] False for padding
    module: Tensor | None = None  # bool [B, Q, L] text that reads its own question alone; None: no such text


def sequence(model: LlavaOnevision, feats: Tensor, text: Tensor, real: Tensor) -> Tensor:
    """Embeddings [1, T, D] of a batch: each clip's system and frames with their carriers, then all real text tokens.

    `feats` [B, F, N, D], `text` int64 [B, Q, L], `real` bool [B, Q, L].
    """
    rows, width = len(feats), feats.shape[-1]
    carriers = feats.mean(2, keepdim=True)  # the carrier's input: the mean of its frame (VideoScan 3.1)
    body = torch.cat((feats, carriers), 2).flatten(1, 2)
    table = model.net.get_input_embeddings()
    system = table(torch.tensor(model.system_ids(), device=text.device)).expand(rows, -1, -1)
    return torch.cat((torch.cat((system, body), 1).reshape(-1, width), table(text[real])))[None]


class _Part:
    """One kind of reader, frames or questions, flattened to R = B*X rows of `length` tokens."""

    def __init__(self, shelves: Shelves, own: Tensor, rope: Rope, like: Tensor) -> None:
        rows, moments, slots = shelves.where.shape
        self.rows, self.moments, self.length = rows * moments, moments, own.shape[-1]
        self.mix = shelves.mix.to(like.dtype)
        self.past = rope.at(shelves.where.reshape(self.rows, slots), like)
        self.own = rope.at(own.reshape(self.rows, self.length), like)
        self.causal = torch.ones(self.length, self.length, dtype=torch.bool, device=like.device).tril()
        self.valid = shelves.valid.reshape(self.rows, slots)

    def mask(self, system: int, extra: Tensor | None = None) -> Tensor:
        """Bool [R, 1, length, S + M (+ extra) + length]; `extra` bool [R, E]."""
        ahead = [self.valid.new_ones(self.rows, system), self.valid, *([] if extra is None else [extra])]
        before = torch.cat(ahead, -1)[:, None].expand(-1, self.length, -1)
        return torch.cat((before, self.causal.expand(self.rows, -1, -1)), -1)[:, None]

    def slots(self, carriers: Tensor) -> Tensor:
        """Carriers [B, Hkv, F, Dh] -> what each moment has in its slots [R, Hkv, M, Dh]."""
        mixed = torch.einsum("bxmf,bhfd->bxhmd", self.mix, carriers)
        return mixed.reshape(self.rows, *mixed.shape[2:])


@dataclass(slots=True)
class Unrolled:
    """The attention plan of one batch (`stream.attention.Reading`).

    After the forward `pointed` holds, for every text token, the pointer heads' mean attention to each slot, detail of
    the same frames included: float [B, Q, L, M].
    """

    script: Script
    pointer: Pointer | None
    pointed: Tensor | None = field(default=None, init=False)
    _frames: _Part = field(init=False)
    _texts: _Part | None = field(init=False)
    _system: Rotation = field(init=False)
    _seen: Rotation | None = field(default=None, init=False)
    _masks: tuple[Tensor, Tensor | None, Tensor] = field(init=False)

    @classmethod
    def of(cls, script: Script, rope: Rope, like: Tensor, pointer: Pointer | None = None) -> Unrolled:
        """Rotations and masks are made once here and serve every layer; `like` gives dtype and device."""
        plan = cls(script, pointer)
        plan._system = rope.at(torch.arange(script.system, dtype=torch.float32, device=like.device)[None], like)
        plan._frames = _Part(script.frames, script.frames_where, rope, like)
        texts = _Part(script.questions, script.text_where, rope, like) if script.text_where.shape[1] else None
        plan._texts = texts
        text_mask = None
        if texts is not None:
            detail = script.detail
            plan._seen = rope.at(detail.where.reshape(texts.rows, -1), like) if detail.frame.shape[2] else None
            extra = (detail.frame >= 0).reshape(texts.rows, -1).repeat_interleave(script.visual, -1)
            text_mask = texts.mask(script.system, extra)
            if script.module is not None:
                text_mask = text_mask.clone()
                text_mask[..., : -texts.length] &= ~script.module.reshape(texts.rows, 1, texts.length, 1)
        causal = torch.ones(script.system, script.system, dtype=torch.bool, device=like.device).tril()
        plan._masks = (plan._frames.mask(script.system), text_mask, causal[None, None])
        return plan

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See Reading. Queries and keys [1, heads, T, Dh] of the whole batch; gradients flow."""
        system, clips = self.script.system, len(self.script.frames_where)
        ahead = clips * (system + self._frames.moments * (self.script.visual + 1))
        clip = [_split(part[0, :, :ahead], 1, (clips, -1)).transpose(0, 1) for part in (query, key, value)]
        sys_q, sys_k, sys_v = (part[:, :, :system] for part in clip)  # [B, heads, S, Dh]
        sys_k = self._system(sys_k)
        sys_out = _attention(self._system(sys_q), sys_k, sys_v, self._masks[2], scale)[0]
        frames = [_split(part[:, :, system:], 2, (self._frames.moments, -1)) for part in clip]
        carriers = (frames[1][:, :, :, -1], frames[2][:, :, :, -1])  # [B, Hkv, F, Dh]
        sink = (sys_k, sys_v)
        own = (_rows(frames[0]), _rows(frames[1]), _rows(frames[2]))
        told, _ = self._read(self._frames, own, sink, carriers, scale)
        out = torch.cat((sys_out, _unrows(told, clips)), 2).transpose(0, 1).flatten(1, 2)[None]
        if self._texts is None:
            return out
        own = (self._pad(query[0, :, ahead:]), self._pad(key[0, :, ahead:]), self._pad(value[0, :, ahead:]))
        visual = (frames[1][:, :, :, :-1], frames[2][:, :, :, :-1])
        told, weights = self._read(self._texts, own, sink, carriers, scale, visual)
        if self.pointer is not None and layer == self.pointer.layer:
            self.pointed = self._by_slot(weights[:, list(self.pointer.heads)].mean(1))
        real = self.script.text_real.flatten(0, 1)  # [R, L]
        return torch.cat((out, told.transpose(1, 2)[real].transpose(0, 1)[None]), 2)

    def _pad(self, part: Tensor) -> Tensor:
        """Real text tokens [heads, V, Dh] -> [R, heads, L, Dh]."""
        real = self.script.text_real.flatten(0, 1)
        padded = part.new_zeros(*real.shape, part.shape[0], part.shape[2])
        padded[real] = part.transpose(0, 1)
        return padded.transpose(1, 2)

    def _read(
        self,
        part: _Part,
        own: tuple[Tensor, Tensor, Tensor],
        sink: tuple[Tensor, Tensor],
        carriers: tuple[Tensor, Tensor],
        scale: float,
        visual: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attention of one kind of reader; outputs [R, heads, length, Dh] and weights [R, heads, length, keys]."""
        query, key, value = own
        keys = [sink[0].repeat_interleave(part.moments, 0), part.past(part.slots(carriers[0]))]
        values = [sink[1].repeat_interleave(part.moments, 0), part.slots(carriers[1])]
        if visual is not None and self._seen is not None:
            keys.append(self._seen(self._gather(visual[0])))
            values.append(self._gather(visual[1]))
        keys.append(part.own(key))
        values.append(value)
        mask = self._masks[0] if visual is None else self._masks[1]
        assert mask is not None
        return _attention(part.own(query), torch.cat(keys, 2), torch.cat(values, 2), mask, scale)

    def _gather(self, visual: Tensor) -> Tensor:
        """Visual keys or values [B, Hkv, F, N, Dh] -> what each question reads in full [R, Hkv, k*N, Dh]."""
        index = self.script.detail.frame.clamp_min(0)  # [B, Q, k]
        batch = torch.arange(len(visual), device=visual.device)[:, None, None]
        picked = visual.transpose(1, 2)[batch, index]  # [B, Q, k, Hkv, N, Dh]
        return picked.transpose(2, 3).flatten(3, 4).flatten(0, 1)

    def _by_slot(self, weights: Tensor) -> Tensor:
        """Weights [R, L, keys] -> attention to each slot [B, Q, L, M], the slot's detail included."""
        script, detail = self.script, self.script.detail
        rows, asked, slots = script.questions.where.shape
        weights = _split(weights, 0, (rows, asked))
        found = weights[..., script.system : script.system + slots]
        if self._seen is None:
            return found
        first = script.system + slots
        seen = weights[..., first : first + detail.frame.shape[2] * script.visual]
        seen = _split(seen, -1, (-1, script.visual)).sum(-1)  # [B, Q, L, k]
        index = detail.slot[:, :, None].expand(-1, -1, seen.shape[2], -1)
        return found.scatter_add(-1, index, seen)


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Grouped-query attention written out: on CPUs it beats the fused kernel in the backward pass."""
    groups, length = query.shape[1] // key.shape[1], query.shape[2]
    stacked = _split(query, 1, (-1, groups)).flatten(2, 3)  # [R, Hkv, groups * length, Dh]
    scores = (stacked @ key.transpose(2, 3)) * scale
    scores = _split(scores, 2, (groups, length)).masked_fill(~mask[:, :, None], torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    out = weights.flatten(2, 3) @ value
    return _split(out, 2, (groups, length)).flatten(1, 2), weights.flatten(1, 2)


def _rows(part: Tensor) -> Tensor:
    """[B, heads, X, length, Dh] -> [B*X, heads, length, Dh]."""
    return part.transpose(1, 2).flatten(0, 1)


def _unrows(part: Tensor, rows: int) -> Tensor:
    """[B*X, heads, length, Dh] -> [B, heads, X*length, Dh]."""
    return _split(part, 0, (rows, -1)).transpose(1, 2).flatten(2, 3)


def _split(part: Tensor, dim: int, sizes: tuple[int, ...]) -> Tensor:
    """`Tensor.unflatten`, which torch leaves untyped."""
    return part.unflatten(dim, sizes)  # type: ignore[no-any-return,no-untyped-call]
