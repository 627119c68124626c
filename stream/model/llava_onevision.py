"""Adapter for Hugging Face `LlavaOnevisionForConditionalGeneration` (SigLIP + MLP + Qwen2).

Calls the checkpoint's own modules and bends only what transformers offers to bend: the rotary module is disarmed,
attention goes through a registered function, the cache is ours. No forward is replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stream.attention import Mass, Reading, Side, Step, install
from stream.ending import Ending
from stream.graphs import Graphs
from stream.kv import Boards, Extent, Lane, Past, Slab, Store
from stream.marks import MARKS
from stream.model import Geometry, gelu, linear
from stream.model.card import Card
from stream.model.siglip import Siglip
from stream.rope import disarm
from stream.thin import Thinned
from stream.tower import Tower
from stream.types import VisualTokens

SAMPLED = 64  # values of each parameter that make a checkpoint's identity


class LlavaOnevision:
    """See `stream.model.Model`. `net` is in eval mode on its device; `tokenizer` is the checkpoint's own."""

    def __init__(self, net: Any, tokenizer: Any, card: Card, name: str) -> None:
        self.net, self.tokenizer, self.card = net, tokenizer, card
        self.language = net.model.language_model
        text, vision = net.config.text_config, net.config.vision_config
        head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        side = -(-(vision.image_size // vision.patch_size) // 2)  # apply_pooling halves the grid, rounding up
        self.geometry = Geometry(
            name=name,
            layers=text.num_hidden_layers,
            kv_heads=text.num_key_value_heads,
            head_width=head_width,
            width=text.hidden_size,
            visual=side * side,
            grid=(side, side),
            image_px=vision.image_size,
            tower_blocks=_used(vision.num_hidden_layers, net.config.vision_feature_layer),
            max_positions=text.max_position_embeddings,
            positions=card.positions,
            carriers=card.carriers,
            trained=card.trained,
            pointer=card.pointer,
            trust=card.trust,
            dtype=net.dtype,
            device=net.device,
            caption=card.caption,
            rules=card.rules,
        )
        self.rope = disarm(self.language, head_width)
        install(self.language)
        self.tower = Siglip(net, self.features, self.geometry.grid)
        self._mean = torch.tensor(card.image_mean, device=net.device).view(1, 3, 1, 1) * 255.0
        self._std = torch.tensor(card.image_std, device=net.device).view(1, 3, 1, 1) * 255.0
        self._system: Past | None = None
        on_gpu = self.geometry.device.type == "cuda"
        if not on_gpu:
            gelu.install(net)
            linear.install(net)
        self._graphs = Graphs(lambda side: self.run(side.embeds, side)) if on_gpu else None
        self._boards = Boards() if on_gpu else None
        known = tokenizer.get_vocab()
        self._marks = {int(known[mark]): mark for mark in MARKS if mark in known}

    @cached_property
    def identity(self) -> str:
        """See `Model.identity`. Of every parameter some values are read, as bfloat16: precision does not matter."""
        digest = hashlib.blake2b(self.card.prefix.encode(), digest_size=8)
        for name, parameter in self.net.named_parameters():
            flat = parameter.detach().flatten()
            places = torch.linspace(0, len(flat) - 1, min(SAMPLED, len(flat)), dtype=torch.float64).long()
            sample = flat[places.to(flat.device)].to(torch.bfloat16).view(torch.int16).cpu()
            digest.update(f"{name} {tuple(parameter.shape)}".encode() + sample.numpy().tobytes())
        return digest.hexdigest()

    def key_base(self) -> Tensor | None:
        """See `Model.key_base`."""
        biases = [layer.self_attn.k_proj.bias for layer in self.language.layers]
        if any(bias is None for bias in biases):
            return None
        return torch.stack([bias.detach().view(self.geometry.kv_heads, -1) for bias in biases])

    def pixels(self, images: Tensor) -> Tensor:
        """uint8 [B, H, W, 3] -> normalised [B, 3, H, W] in the model's dtype."""
        planes = images.to(self.geometry.device).permute(0, 3, 1, 2).float()
        return ((planes - self._mean) / self._std).to(self.geometry.dtype)

    def features(self, pixels: Tensor) -> Tensor:
        """Normalised [B, 3, H, W] -> pooled visual tokens [B, N, D]."""
        found = self.net.model.get_video_features(pixels[:, None], return_dict=True).pooler_output
        return found[:, : self.geometry.visual]  # type: ignore[no-any-return]  # the newline that ends a video is cut

    def patches(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised [B, 3, H, W] -> projected patches before pooling [B, P, D], and what `features` gives of them."""
        kept: list[Tensor] = []
        hook = self.net.model.multi_modal_projector.register_forward_hook(lambda _m, _i, out: kept.append(out))
        try:
            feats = self.features(pixels)
        finally:
            hook.remove()
        return kept[0], feats

    @torch.inference_mode()
    def encode(self, images: np.ndarray, tower: Tower | None = None, taps: Sequence[int] = ()) -> list[VisualTokens]:
        """See `Model.encode`."""
        return self.tower.encode(self.pixels(torch.from_numpy(images)), tower, taps)

    @torch.inference_mode()
    def system(self) -> Past:
        """See `Model.system`. Computed at the first call."""
        if self._system is None:
            geo = self.geometry
            ids = self.system_ids()
            none = torch.zeros(geo.layers, geo.kv_heads, 0, geo.head_width, dtype=geo.dtype, device=geo.device)
            lane = Lane(none, Extent(system=0, slots=0, tokens=len(ids)))
            positions = torch.arange(len(ids), dtype=torch.float32)
            self.forward(self.embed(torch.tensor([ids])), positions[None], lane)
            self._system = Past(*lane.fresh(), positions)  # the lane ends here: nothing overwrites them
        return self._system

    def system_ids(self) -> list[int]:
        """Tokens of everything that stands before the frames; at least one, it is the attention sink."""
        return list(self.tokenizer.encode(self.card.prefix, add_special_tokens=False))

    @torch.inference_mode()
    def slab(self, pasts: Sequence[Past], room: int) -> Slab:
        """See `Model.slab`."""
        system = self.system()
        return Slab([Past.join([system, past]) for past in pasts], room, self.rope, self._boards)

    @torch.inference_mode()
    def prepare(self, lane: Lane) -> None:
        """See `Model.prepare`."""
        if not lane.primed:
            lane.prime(self.system(), self.rope)
        lane.turn(self.rope)

    @torch.inference_mode()
    def forward(self, embeds: Tensor, positions: Tensor, store: Store, mass: Mass | None = None) -> Tensor:
        """See `Model.forward`."""
        return self.forward_all([Step(embeds, positions, store, mass)])[0]

    @torch.inference_mode()
    def forward_all(self, steps: Sequence[Step]) -> list[Tensor]:
        """See `Model.forward_all`."""
        if any(step.thin is not None for step in steps):
            thinned = Thinned(steps, self.rope)
            with thinned.watching(self.language.layers):
                return thinned.split(self.run(thinned.embeds, thinned))
        if any(step.ends is not None for step in steps):
            ending = Ending(steps, self.rope)
            with ending.watching(self.language.layers):
                return ending.split(self.run(ending.embeds, ending))
        side = Side(steps, self.rope)
        return side.split(self.run(side.embeds, side) if self._graphs is None else self._graphs.forward(side))

    def run(self, embeds: Tensor, plan: Reading) -> Tensor:
        """See `Model.run`."""
        out = self.language(
            inputs_embeds=embeds,
            use_cache=False,  # whoever reads keeps the keys
            position_ids=torch.zeros(1, 1, dtype=torch.long, device=embeds.device),  # positions are in the plan
            plan=plan,
        )
        return out.last_hidden_state  # type: ignore[no-any-return]

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """See `Model.logits`."""
        return self.net.lm_head(hidden).float()  # type: ignore[no-any-return]

    @torch.inference_mode()
    def embed(self, ids: Tensor) -> Tensor:
        """See `Model.embed`."""
        return self.net.get_input_embeddings()(ids.to(self.geometry.device))  # type: ignore[no-any-return]

    def question_ids(self, question: str) -> list[int]:
        """See `Model.question_ids`. Special tokens written in a question stay plain text."""
        before, _, after = self.card.suffix.partition("{question}")
        question = question.lower() if self.card.fold_case else question
        ids: list[int] = []
        for text, special in ((before, True), (question, False), (after, True)):
            ids += self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not special)
        return ids

    def text_ids(self, text: str) -> list[int]:
        """See `Model.text_ids`."""
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def answer_ids(self, answer: str) -> list[int]:
        """An answer as the model should write it: its text and the token that ends it."""
        return [*self.tokenizer.encode(answer, add_special_tokens=False), self.tokenizer.eos_token_id]

    def decode(self, ids: Sequence[int]) -> str:
        """See `Model.decode`."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    @property
    def marks(self) -> Mapping[int, str]:
        """See `Model.marks`."""
        return self._marks

    @property
    def stop_ids(self) -> frozenset[int]:
        """See `Model.stop_ids`."""
        ends = self.net.generation_config.eos_token_id
        found = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        return frozenset(int(item) for item in found if item is not None)


def _used(blocks: int, feature_layer: Any) -> int:
    """How many tower blocks the features went through; hidden state 0 is what the first of them reads."""
    layer = feature_layer if isinstance(feature_layer, int) else feature_layer[-1]
    return int(layer if layer >= 0 else blocks + 1 + layer)
