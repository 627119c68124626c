"""Where things stand: no scheme reaches its bound, `equal` knows no order, a stretched base is the published one."""

from __future__ import annotations

import dataclasses
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from stream.errors import ModelError
from stream.kv import Past
from stream.model.llava_onevision import LlavaOnevision
from stream.model.loading import open_model
from stream.policy import Paper
from stream.positions import TABLE
from stream.rope import stretch
from stream.types import Span
from tests.models import absorb, make_bank, make_encoder, random_frames, random_model

QUESTION = "what is visible now?"


def answer(model: LlavaOnevision, past: Past, positions: str) -> Tensor:
    """Logits of the answer's first token."""
    ids = torch.tensor([model.question_ids(QUESTION)])
    where = TABLE[positions](len(model.system()), model.geometry.visual).text(6, ids.shape[1])
    slab = model.slab([past], room=ids.shape[1])
    return model.logits(model.forward(model.embed(ids), where[None], slab)[:, -1])


def remembered(model: LlavaOnevision, positions: str) -> Past:
    """Six carriers and the detail of the last two frames."""
    bank, encoder = make_bank(model, 8, 2, positions=positions), make_encoder(model)
    for frame in random_frames(6):
        absorb(encoder, bank, frame)
    return bank.fork(now_s=1010.0).past


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return random_model()


@pytest.mark.parametrize("positions", TABLE)
def test_only_equal_positions_forget_the_order(model: LlavaOnevision, positions: str) -> None:
    past = remembered(model, positions)
    shuffled = torch.randperm(len(past), generator=torch.Generator().manual_seed(1))
    mixed = Past(past.keys[:, :, shuffled], past.values[:, :, shuffled], past.positions)
    one, other = answer(model, past, positions), answer(model, mixed, positions)
    assert torch.allclose(one, other, atol=1e-5) == (positions == "equal")


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("count", [0, 1, 7])
def test_nothing_stands_at_the_bound(name: str, count: int) -> None:
    scheme = TABLE[name](system=3, visual=4)
    spans = [Span(float(second), float(second)) for second in range(count)]
    now = Span(float(count), float(count))
    found = torch.cat(
        (scheme.carriers(spans, now.last_s), scheme.frame(count, now, now.last_s), scheme.text(count + 1, 5))
    )
    assert found.dtype == torch.float32
    assert int(found.min()) >= 3
    assert int(found.max()) < scheme.bound(max(count, 1), 5)
    assert isinstance(scheme.paper, Paper)
    assert dataclasses.is_dataclass(scheme)


@pytest.mark.parametrize("scale", [1.0, 2.0, 8.0])
def test_a_stretched_base_is_the_published_one(scale: float) -> None:
    base, width = 10_000.0, 16

    def rotary(theta: float) -> nn.Module:
        rope = {"rope_type": "default", "rope_theta": theta}
        return cast(
            "nn.Module", Qwen2RotaryEmbedding(Qwen2Config(hidden_size=64, num_attention_heads=4, rope_parameters=rope))
        )

    ours = rotary(base)
    stretch(ours, scale)
    theirs = rotary(base * scale ** (width / (width - 2)))
    assert torch.allclose(cast("Tensor", ours.inv_freq), cast("Tensor", theirs.inv_freq), rtol=1e-5)
    assert scale != 1 or torch.equal(cast("Tensor", ours.inv_freq), cast("Tensor", theirs.inv_freq))


def test_a_scale_of_one_changes_no_bit_and_two_reach_twice_as_far() -> None:
    plain, one, two = (
        open_model("tiny", "cpu"),
        open_model("tiny", "cpu", rope_scale=1.0),
        open_model("tiny", "cpu", rope_scale=2.0),
    )
    past = remembered(cast("LlavaOnevision", plain), "compact")
    answers = [answer(cast("LlavaOnevision", model), past, "compact") for model in (plain, one, two)]
    assert torch.equal(answers[0], answers[1])
    assert not torch.allclose(answers[0], answers[2])
    assert two.geometry.max_positions == 2 * plain.geometry.max_positions
    assert one.geometry == plain.geometry


def test_scales_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ModelError, match=r"rope_scale: 0\.5"):
        open_model("tiny", "cpu", rope_scale=0.5)
    longer = Qwen2RotaryEmbedding(
        Qwen2Config(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    )
    with pytest.raises(ValueError, match="dynamic"):
        stretch(longer, 2.0)
