"""The vision tower of a checkpoint, block by block where a method wants it so, and what its attention read.

    pixels --embeddings, blocks, projector, pooling--> visual tokens           the checkpoint's own forward
    pixels --embeddings--> patches --block, thin, block, thin, ..--> patches --projector, pooling--> visual tokens

The second way calls the same modules, one frame at a time. Blocks are numbered from 0 and count those in use: the
projector reads what the last of them gives, before the tower's final norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stream.ops import strongest
from stream.tap import Tap
from stream.tower import Patches, Thinning, Tower
from stream.types import VisualTokens


class Siglip:
    """Over the modules of `net`, a LlavaOnevisionForConditionalGeneration. `features` is its plain way, pixels to
    [B, N, D]; `grid` are the rows and columns of the N tokens."""

    def __init__(self, net: Any, features: Callable[[Tensor], Tensor], grid: tuple[int, int]) -> None:
        self._model, self._config, self._features, self._tokens = net.model, net.config, features, grid
        side = net.config.vision_config.image_size // net.config.vision_config.patch_size
        self.grid = (side, side)  # of patches

    @cached_property
    def layers(self) -> list[Any]:
        """The blocks in use. Raises ValueError where the tokens are not all patches of one block's output."""
        wanted, strategy = self._config.vision_feature_layer, self._config.vision_feature_select_strategy
        if not isinstance(wanted, int) or strategy != "full":
            raise ValueError(
                "tower methods and taps need tokens that are all patches of one block, but the checkpoint's config "
                f"has vision_feature_layer {wanted} and vision_feature_select_strategy {strategy!r}"
            )
        layers = list(self._model.vision_tower.encoder.layers)
        return layers[: wanted if wanted >= 0 else len(layers) + 1 + wanted]

    @property
    def blocks(self) -> int:
        """How many blocks are in use."""
        return len(self.layers)

    @torch.inference_mode()
    def encode(self, pixels: Tensor, tower: Tower | None = None, taps: Sequence[int] = ()) -> list[VisualTokens]:
        """Normalised [B, 3, H, W] -> visual tokens, with the attention of the blocks `taps`.

        Frames that `tower` leaves whole, and all without it, go the plain way in one batch. Raises ValueError for a
        block that is not there.
        """
        for block in taps:
            if not 0 <= block < self.blocks:
                raise ValueError(f"tap of block {block}: the tower has blocks 0 to {self.blocks - 1}")
        if tower is None:
            return self._plain(pixels, taps)
        embeddings = self._model.vision_tower.embeddings(pixels)
        begun = [tower.start(own, self.grid, self.blocks) for own in embeddings]
        whole = [place for place, thinning in enumerate(begun) if thinning is None]
        if len(whole) == len(begun):
            return self._plain(pixels, taps)
        found = dict(zip(whole, self._plain(pixels[whole], taps), strict=True)) if whole else {}
        for place, thinning in enumerate(begun):
            if thinning is not None:
                found[place] = self._thinned(embeddings[place], thinning, tower.share, taps)
        return [found[place] for place in range(len(begun))]

    def _plain(self, pixels: Tensor, taps: Sequence[int]) -> list[VisualTokens]:
        with self._listening(taps) as heard:
            feats = self._features(pixels)
        if not taps:
            return [VisualTokens(row, self._tokens) for row in feats]
        return [
            VisualTokens(row, self._tokens, taps={block: self._tap(block, heard[block][place]) for block in taps})
            for place, row in enumerate(feats)
        ]

    @contextmanager
    def _listening(self, taps: Sequence[int]) -> Iterator[Mapping[int, Tensor]]:
        """While it lasts, what the attention of the blocks `taps` reads is kept: [B, P, C] each."""
        heard: dict[int, Tensor] = {}

        def keep(block: int) -> Callable[..., None]:
            def hook(_module: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
                heard[block] = named["hidden_states"] if "hidden_states" in named else args[0]

            return hook

        hooks = [
            self.layers[block].self_attn.register_forward_pre_hook(keep(block), with_kwargs=True) for block in taps
        ]
        try:
            yield heard
        finally:
            for hook in hooks:
                hook.remove()

    def _thinned(self, embeddings: Tensor, thinning: Thinning, share: float, taps: Sequence[int]) -> VisualTokens:
        """One frame from its patch embeddings [P, C] on."""
        patches, found = Patches.whole(embeddings), {}
        for block, layer in enumerate(self.layers):
            read = layer.layer_norm1(patches.feats)
            if block in taps:
                found[block] = self._tap(block, replace(patches, feats=read).restored())
            states = _project(layer.self_attn, read)
            patches = replace(patches, feats=patches.feats + _attend(layer.self_attn, states, patches.sizes, share))
            patches = thinning.thin(block, patches, Tap.of(*states))
            patches = replace(patches, feats=patches.feats + layer.mlp(layer.layer_norm2(patches.feats)))
        feats = self._pool(self._model.multi_modal_projector(patches.restored()[None]))[0]
        return VisualTokens(feats, self._tokens, taps=found) if taps else VisualTokens(feats, self._tokens)

    def _tap(self, block: int, read: Tensor) -> Tap:
        """Of one block that read the whole grid, `read` [P, C]; of a batch, only these rows are held."""
        attention, own = self.layers[block].self_attn, read.clone()

        def project() -> tuple[Tensor, Tensor, Tensor]:
            with torch.inference_mode():
                return _project(attention, own)

        return Tap(project, self._scores)

    def _scores(self, scores: Tensor) -> Tensor:
        """[P] -> [N], by the checkpoint's own pooling."""
        return self._pool(scores.float()[None, :, None])[0, :, 0]

    def _pool(self, feats: Tensor) -> Tensor:
        return self._model.apply_pooling(feats)  # type: ignore[no-any-return]


def _project(attention: Any, read: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [heads, n, Dh] of rows `read` [n, C]."""
    made = (linear(read) for linear in (attention.q_proj, attention.k_proj, attention.v_proj))
    queries, keys, values = (own.view(len(read), attention.num_heads, -1).transpose(0, 1) for own in made)
    return queries, keys, values


def _attend(attention: Any, states: tuple[Tensor, Tensor, Tensor], sizes: Tensor, share: float) -> Tensor:
    """What one block's attention adds [n, C]: a row that stands for s patches is read as s rows would be.

    With `share` < 1 only that share of a head's weights, the largest, are used, as they are.
    """
    queries, keys, values = states
    bias = None if bool((sizes == 1).all()) else sizes.log()
    if share < 1:
        maps = (strongest(own[None], share)[0] for own in Tap.of(*states).maps(bias))
        mixed = torch.stack([own @ value.float() for own, value in zip(maps, values, strict=True)]).to(values)
    else:
        mask = None if bias is None else bias.to(queries).expand(1, 1, len(sizes), -1)
        mixed = F.scaled_dot_product_attention(queries[None], keys[None], values[None], attn_mask=mask)[0]
    return attention.out_proj(mixed.transpose(0, 1).flatten(1))  # type: ignore[no-any-return]
