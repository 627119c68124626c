"""The real geometries with random weights: what they cost does not depend on the values.

tiny   the shipped model's classes and sizes
0.5b   LLaVA-OneVision on Qwen2-0.5B with SigLIP so400m at 384 px (llava-hf/llava-onevision-qwen2-0.5b-ov-hf)
7b     the same tower on Qwen2-7B (llava-hf/llava-onevision-qwen2-7b-ov-hf)
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from stream.model import tiny

NAMES = ("tiny", "0.5b", "7b")
BLOCK = 1_048_573  # values drawn, then repeated; a prime, so that no two rows begin alike
TEXT = {
    "0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
}


def config(name: str) -> Any:
    """The configuration of a geometry in `NAMES`. Raises KeyError."""
    if name == "tiny":
        return tiny.config(512)
    text = TEXT[name]
    return transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(
            hidden_size=1152,
            intermediate_size=4304,
            num_hidden_layers=26,
            num_attention_heads=16,
            image_size=384,
            patch_size=14,
            vision_use_head=False,
        ),
        text_config=transformers.Qwen2Config(
            vocab_size=152_000,
            max_position_embeddings=32_768,
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
            **text,
        ),
        image_token_id=151_646,
        video_token_id=151_647,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=text["tie_word_embeddings"],
    )


def random_net(name: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """A network of that geometry, in eval mode, made at the speed of memory: a block of normal values, repeated."""
    kind, wanted = transformers.LlavaOnevisionForConditionalGeneration, config(name)
    with torch.device("meta"):
        net = kind(wanted).to(dtype)
    net = net.to_empty(device=device)
    net.tie_weights()
    block = torch.empty(BLOCK, device=device, dtype=dtype).normal_(0.0, 0.02, generator=_generator(device))
    for parameter in net.parameters():
        _fill(parameter.data, block)
    for module in net.modules():
        if isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("RMSNorm"):
            module.weight.data.fill_(1.0)
    _restore_buffers(net, wanted, device)
    return net.eval().requires_grad_(False)


def _generator(device: str | torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def _fill(tensor: Tensor, block: Tensor) -> None:
    flat = tensor.view(-1)
    whole = len(flat) // len(block) * len(block)
    flat[:whole].view(-1, len(block)).copy_(block)
    flat[whole:] = block[: len(flat) - whole]


def _restore_buffers(net: Any, wanted: Any, device: str | torch.device) -> None:
    """What `to_empty` leaves undefined and no parameter holds: rotary frequencies and the tower's patch numbers."""
    language = net.model.language_model
    language.rotary_emb = type(language.rotary_emb)(wanted.text_config).to(device)
    for module in net.modules():
        numbers = getattr(module, "position_ids", None)
        if isinstance(numbers, Tensor):
            numbers.copy_(torch.arange(numbers.numel(), device=device).view(numbers.shape))
