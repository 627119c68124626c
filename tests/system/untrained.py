"""The tiny geometry with random weights that nevertheless writes: what system tests run, whatever training gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

from stream.model import tiny
from stream.model.llava_onevision import LlavaOnevision
from stream.train.loop import export
from tests.models import WORDS


def make_checkpoint(folder: Path) -> Path:
    """Write the checkpoint to `folder`; returns it."""
    transformers.utils.logging.disable_progress_bar()
    tokenizer = tiny.tokenizer(WORDS)
    net = tiny.untrained(0, len(tokenizer)).requires_grad_(False)
    say_something(net, tokenizer)
    export(LlavaOnevision(net, tokenizer, tiny.CARD, "random"), folder)
    return folder


def say_something(net: Any, tokenizer: Any) -> None:
    """Tokens that print nothing, the end among them, get a zero row: their logit is 0 and another one wins."""
    rows = net.get_input_embeddings().weight
    for token in range(len(tokenizer)):
        text = tokenizer.decode([token], skip_special_tokens=True).strip()
        if not (text and text.isascii() and text.isprintable()):
            rows[token] = 0.0
