"""The speed bench's formulas: the work of a frame is what torch counts."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.speed_limits import Work
from tests import geometry
from tests.models import random_model


def counted(counter: FlopCounterMode) -> int:
    """Operations of matrix products, attention's included."""
    return int(counter.get_total_flops())


@torch.inference_mode()
def test_the_work_of_a_frame_is_what_torch_counts() -> None:
    model = random_model()
    geo, work = model.geometry, Work(model.net.config)
    image = np.zeros((1, geo.image_px, geo.image_px, 3), dtype=np.uint8)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.encode(image)
    assert abs(counted(counter) / work.tower - 1) < 0.01
    tokens, before = geo.visual + 1, 40
    system = model.system()
    past = type(system)(
        torch.zeros(geo.layers, geo.kv_heads, before, geo.head_width),
        torch.zeros(geo.layers, geo.kv_heads, before, geo.head_width),
        torch.arange(before, dtype=torch.float32),
    )
    slab = model.slab([past], tokens)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.forward(torch.zeros(1, tokens, geo.width), torch.arange(tokens)[None].float(), slab)
    masked = 4 * geo.layers * geo.width * tokens * (tokens - 1) // 2  # scores that a mask throws away
    assert abs((counted(counter) - masked) / work.language(tokens, before + len(system)) - 1) < 0.01


def test_the_real_geometries_weigh_what_their_names_say() -> None:
    half, seven = Work(geometry.config("0.5b")), Work(geometry.config("7b"))
    assert half.layer_weights == 357_826_560
    assert half.head_weights == 896 * 152_000
    assert 6.5e9 < seven.layer_weights < 6.6e9
    assert 0.63e12 < half.tower < 0.68e12
    assert 0.13e12 < half.language(197, 128) < 0.16e12
    assert 13.9e9 < seven.word_bytes(2, 142, 2) < 14.3e9
