"""Weights in fewer bytes: same answers, the same carriers to a reader; a batch gives what its rows give."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from daemon.session import Session
from stream.errors import ModelError
from stream.model.loading import open_model
from stream.model.weights import Float16Linear, Int8Linear, Packed, repack
from stream.train.world import Street
from stream.types import Frame
from tests.models import absorb, make_bank, make_encoder, random_model

QUESTIONS = ("what is visible now?", "what was seen first?", "was a red car seen?")
x86 = pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="FBGEMM is for x86")


def lived(model: Any) -> tuple[list[str], torch.Tensor]:
    """Answers from a minute of street, and everything that was remembered of it."""
    street, bank, encoder = Street(12345, 60.0), make_bank(model, 12, 4), make_encoder(model)
    for number in range(15):
        image = np.asarray(street.render(4.0 * number, 96, 96))
        absorb(encoder, bank, Frame("door", number, 0, 4.0 * number, 4.0 * number, image))
    texts = []
    for question in QUESTIONS:
        session = Session(model, bank.policy.positions, [bank.fork()], model.question_ids(question), 12)
        while not session.done:
            session.step()
        texts.append(session.text(0))
    state = bank.state(60.0)
    return texts, torch.cat((state.keys.flatten(), state.values.flatten()))


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Relative error."""
    return float((found - wanted).norm() / wanted.norm())


@x86
@pytest.mark.parametrize(("kind", "most"), [("float16", 1e-3), ("int8", 0.04)])
def test_the_shipped_model_answers_the_same(kind: str, most: float) -> None:
    plain, short = open_model("tiny", "cpu"), open_model("tiny", "cpu", weights=kind)
    texts, remembered = lived(plain)
    again, close = lived(short)
    assert again == texts
    assert off(close, remembered) < most
    assert short.identity == plain.identity  # an archive is read on, whatever the weights are kept in
    base, own = plain.key_base(), short.key_base()
    assert base is not None
    assert own is not None
    assert torch.equal(own, base)


@x86
@pytest.mark.parametrize("kind", [Float16Linear, Int8Linear])
def test_a_batch_gives_what_its_rows_give(kind: type[Packed]) -> None:
    """One row's outlier must not cost its neighbours their precision."""
    torch.manual_seed(0)
    linear = nn.Linear(256, 96).requires_grad_(False)
    layer, states = kind(linear), torch.randn(5, 3, 256)
    states[2, 1, 7] = 1000.0
    whole = layer(states)
    assert whole.shape == (5, 3, 96)
    for row in range(5):
        assert torch.equal(layer(states[row]), whole[row])
    assert off(whole[0], linear(states[0])) < 0.03


@x86
@torch.inference_mode()
def test_int8_sums_do_not_overflow() -> None:
    """The largest products that there are: AVX2 sums pairs of them in 16 bits."""
    linear = nn.Linear(512, 8, bias=False)
    linear.weight.fill_(0.5)
    assert Int8Linear(linear)(torch.ones(1, 512)).tolist() == [pytest.approx([256.0] * 8, rel=1e-3)]
    assert Int8Linear(linear)(torch.zeros(1, 512)).tolist() == [[0.0] * 8]
    assert Int8Linear(linear)(-torch.ones(1, 512).bfloat16()).dtype is torch.bfloat16


@x86
def test_only_the_language_model_changes() -> None:
    net = random_model().net
    rows = net.get_input_embeddings().weight.clone()
    repack(net, "int8")
    packed = [name for name, module in net.named_modules() if isinstance(module, Packed)]
    assert len(packed) == 7 * 4 + 1
    assert all("language_model" in name or name == "lm_head" for name in packed)
    assert torch.equal(net.get_input_embeddings().weight, rows)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ModelError, match=r"model\.weights: 'int4' is none of native, float16, int8"):
        repack(random_model().net, "int4")


def test_a_processor_without_the_kernels_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["qnnpack"])
    with pytest.raises(ModelError, match="int8 needs an x86 processor or a GPU"):
        repack(random_model().net, "int8")


def test_what_a_gpu_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    net = SimpleNamespace(device=torch.device("cuda"))
    with pytest.raises(ModelError, match="float16 is for processors"):
        repack(net, "float16")
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ModelError, match=r"needs torchao: pip install 'longwatch\[gpu\]'"):
        repack(net, "int8")
