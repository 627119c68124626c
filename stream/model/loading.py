"""From a name to a running model: `tiny` (shipped), a directory written by `save_pretrained`, or a hub id."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from stream.errors import ModelError
from stream.model import TABLE, Model
from stream.model import card as cards
from stream.model.weights import repack
from stream.policy import nearest
from stream.rope import stretch

SHIPPED = {"tiny": Path(__file__).parent / "weights" / "tiny"}


def pick_device(wanted: str) -> torch.device:
    """`auto` takes CUDA where there is one. Raises ModelError when CUDA is asked for and absent."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("model.device: cuda was asked for, but torch sees no GPU; use auto or cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def pick_dtype(wanted: str, device: torch.device, parameters: int) -> torch.dtype:
    """bf16 where the processor multiplies it natively and the model is large enough to gain, else fp32."""
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native and parameters > 50_000_000 else torch.float32


def open_model(
    path: str,
    device: str = "auto",
    dtype: str = "auto",
    system_prompt: str | None = None,
    weights: str = "native",
    rope_scale: float = 1.0,
) -> Model:
    """Load a checkpoint. Raises ModelError naming the path, what is wrong with it and the way out.

    `rope_scale`: positions reach so many times as far as the checkpoint was trained for, see `stream.rope.stretch`.
    """
    folder = SHIPPED.get(path) or Path(path).expanduser()
    source = str(folder) if folder.is_dir() else path
    if not folder.is_dir() and (path.startswith((".", "/", "~")) or path.count("/") != 1):
        raise ModelError(f"model.path: {path!r} is neither `tiny`, a directory, nor a hub id such as owner/name")
    place = pick_device(device)
    transformers.utils.logging.disable_progress_bar()  # a service's log is no place for it
    try:
        config = transformers.AutoConfig.from_pretrained(source)
        if config.model_type not in TABLE:
            hint = nearest(config.model_type, list(TABLE))
            raise ModelError(f"model.path: {path!r} is a {config.model_type!r} checkpoint; {hint}")
        net = _weights(source, config, place, dtype)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"model.path: cannot load {path!r}: {first}") from error
    _stretch(net, rope_scale)
    card = cards.load(Path(source)) if folder.is_dir() else cards.Card()
    if system_prompt is not None:
        card = card.model_copy(update={"prefix": _with_prompt(card.prefix, system_prompt)})
    module, _, name = TABLE[config.model_type].partition(":")
    adapter: Model = getattr(importlib.import_module(module), name)(net, tokenizer, card, _label(path))
    if weights != "native":
        adapter.identity  # noqa: B018 - read off the weights as loaded: carriers of all kinds may be mixed
        repack(net, weights)
    return adapter


def _weights(source: str, config: Any, place: torch.device, dtype: str) -> Any:
    kind = transformers.LlavaOnevisionForConditionalGeneration
    with torch.device("meta"):
        parameters = sum(item.numel() for item in kind(config).parameters())
    net = kind.from_pretrained(source, dtype=pick_dtype(dtype, place, parameters))
    return net.to(place).eval().requires_grad_(False)


def _stretch(net: Any, scale: float) -> None:
    """Rotary positions and the limit that the geometry names."""
    if not scale >= 1:
        raise ModelError(f"model.rope_scale: {scale} would make positions reach less far; use 1 or more")
    if scale == 1:
        return
    text = net.config.text_config
    try:
        stretch(net.model.language_model.rotary_emb, scale)
    except ValueError as error:
        raise ModelError(f"model.rope_scale: {error}; use 1") from error
    text.max_position_embeddings = int(scale * text.max_position_embeddings)


def _with_prompt(prefix: str, prompt: str) -> str:
    """ChatML `prefix` with its system text replaced, or a system turn put in front."""
    turn = f"<|im_start|>system\n{prompt}<|im_end|>\n"
    _, found, rest = prefix.partition("<|im_end|>\n")
    return turn + (rest if found else prefix)


def _label(path: str) -> str:
    return path if path in SHIPPED else Path(path).name
