"""Companions: codes stand for clusters, semantic tokens gather what is alike, and both give back what they lost."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from memory.bank import MemoryBank
from stream import carrier
from stream.carrier.codes import Codes
from stream.carrier.mean import Mean
from stream.carrier.plus import Plus
from stream.carrier.semtok import SemTok, semantic, spread
from stream.encoder import Encoder
from stream.rope import Rotation
from stream.types import VisualTokens
from tests.models import absorb, make_bank, random_frames, random_model


def tokens(rows: int = 6, columns: int = 6, width: int = 16, seed: int = 0) -> VisualTokens:
    """Smooth over the grid, as features of pictures are."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, width, 3, 3, generator=rng)
    fine = torch.nn.functional.interpolate(coarse, (rows, columns), mode="bilinear")[0].flatten(1).T
    return VisualTokens(fine + 0.05 * torch.randn(rows * columns, width, generator=rng), (rows, columns))


def test_one_semantic_token_at_any_heat_is_the_mean() -> None:
    given = tokens()
    made = SemTok(companions=1, temperature=1e9).embed(given)
    assert len(made) == 2
    torch.testing.assert_close(made[0], made[1])
    torch.testing.assert_close(made[1:], Mean().embed(given))


def test_semantic_tokens_start_from_regions_as_many_as_fit() -> None:
    for grid, count, expected in [
        ((14, 14), 16, 16),
        ((27, 27), 16, 16),
        ((3, 3), 16, 9),
        ((3, 3), 4, 4),
        ((1, 5), 16, 5),
        ((4, 6), 16, 15),
    ]:
        x = torch.randn(grid[0] * grid[1], 8, generator=torch.Generator().manual_seed(1))
        assert len(semantic(x, grid, count, 0.1)) == expected


@pytest.mark.parametrize("temperature", [1e-3, 0.05, 10.0])
def test_semantic_tokens_stay_in_the_convex_hull(temperature: float) -> None:
    """Along any direction none lies beyond the outermost token."""
    x = tokens().feats
    found = semantic(x, (6, 6), 16, temperature)
    sight = torch.randn(16, 500, generator=torch.Generator().manual_seed(2))
    assert ((found @ sight).amax(0) <= (x @ sight).amax(0) + 1e-4).all()


def test_a_constant_frame_has_equal_semantic_tokens() -> None:
    found = semantic(torch.randn(1, 8).expand(36, 8), (6, 6), 16, 0.05)
    torch.testing.assert_close(found, found[:1].expand_as(found))


def test_what_semantic_tokens_lose_falls_with_their_number() -> None:
    losses = []
    for count in (1, 4, 9, 16, 36, 144):
        loss = 0.0
        for seed in range(5):
            x = tokens(12, 12, seed=seed).feats
            loss += float((spread(x, semantic(x, (12, 12), count, 0.01), 0.01) - x).square().mean())
        losses.append(loss)
    assert losses == sorted(losses, reverse=True)
    assert losses[3] < losses[0] / 5


def test_a_semantic_token_gathers_what_is_like_it() -> None:
    """A checkerboard of two things: regions start as mixtures of both, and every token ends as one of them."""
    two = torch.eye(8)[:2] * 3
    board = torch.tensor([[(row + column) % 2 for column in range(6)] for row in range(6)]).flatten()
    board[[0, 1, 2, 7]] = 0
    found = semantic(two[board], (6, 6), 16, 0.02)
    assert torch.cdist(found, two).min(1).values.max() < 0.1 * 3


def test_codes_come_back_as_the_distinct_tokens() -> None:
    distinct = torch.randn(5, 16, generator=torch.Generator().manual_seed(3))
    which = torch.tensor([0, 1, 2, 3, 4] * 7)
    made = Codes(companions=5).embed(VisualTokens(distinct[which], (5, 7)))
    torch.testing.assert_close(made[:-1], distinct)  # in order of first members
    torch.testing.assert_close(made[-1], distinct[which].mean(0))
    assert len(Codes(companions=8).embed(VisualTokens(distinct[which], (5, 7)))) == 6  # no code without members


def test_companions_lie_nearer_to_the_tokens_than_the_mean_alone() -> None:
    given = tokens()
    for name in ("codes", "semtok", "uniform"):
        made = carrier.make({name: {"companions": 4}}).embed(given)
        assert torch.cdist(given.feats, made).min(1).values.mean() < torch.cdist(given.feats, made[-1:]).mean()


# Through the language model


@dataclass
class Watched:
    """A plain causal forward that sums what the last token attends to, over all layers and heads."""

    rotation: Rotation
    mass: Tensor | None = None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See Reading."""
        groups = query.shape[1] // key.shape[1]
        keys, values = (part.repeat_interleave(groups, 1) for part in (self.rotation(key), value))
        logits = self.rotation(query) @ keys.transpose(2, 3) * scale
        later = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
        shares = logits.masked_fill(later, -torch.inf).softmax(-1)
        last = shares[0, :, -1].mean(0)
        self.mass = last if self.mass is None else self.mass + last
        return shares @ values


def test_plus_has_the_tokens_that_the_carrier_attends_to_most() -> None:
    """Of the first frame, by a forward that knows neither lanes nor encoders."""
    model = random_model()
    for frame in random_frames(3):
        bank = make_bank(model)
        work = bank.work(frame)
        feats = model.encode(frame.image[None])[0].feats
        system = model.embed(torch.tensor(model.system_ids()))
        embeds = torch.cat((system, feats, feats.mean(0, keepdim=True)))[None]
        positions = torch.cat((torch.arange(len(system)).float(), work.positions))
        watched = Watched(model.rope.at(positions[None], embeds))
        with torch.inference_mode():
            model.run(embeds, watched)
        assert watched.mass is not None
        made = Encoder(model, Plus(companions=3)).absorb([work])[0]
        assert made.companions is not None
        expected = watched.mass[len(system) : -1].topk(3).indices.sort().values
        assert made.companions.places.tolist() == expected.tolist()
        assert torch.equal(made.companions.keys, made.detail.keys[:, :, expected])
        torch.testing.assert_close(made.digest, feats.mean(0))


@pytest.mark.parametrize("name", ["codes", "semtok", "uniform", "plus"])
def test_companions_come_with_every_carrier_and_those_of_plus_change_none(name: str) -> None:
    """Those of `plus` are visual tokens, which the carrier reads anyway."""
    model = random_model()
    methods: tuple[dict[str, dict[str, int]], ...] = ({"mean": {}}, {name: {"companions": 2}})
    streams = []
    for method in methods:
        chosen = carrier.make(method)
        bank = make_bank(model)
        bank = MemoryBank("door", model.geometry, replace(bank.policy, companions=chosen.companions))
        encoder = Encoder(model, chosen)
        streams.append([absorb(encoder, bank, frame) for frame in random_frames(4)])
    for plain, made in zip(*streams, strict=True):
        assert plain.companions is None
        assert made.companions is not None
        assert made.companions.keys.shape[2] == len(made.companions.places) == 2
        assert made.companions.keys.isfinite().all()
        torch.testing.assert_close(made.digest, plain.digest)
        if name == "plus":
            torch.testing.assert_close(made.keys, plain.keys)
            torch.testing.assert_close(made.values, plain.values)
