"""The tiny model: real LlavaOnevision classes, small enough to train on two CPU cores. Untrained as built here.

SigLIP 4 x 192 at 96 px in 16 px patches (36), pooled to 3 x 3 = 9 visual tokens; Qwen2 4 x 256, 4 heads on 2
key/value heads; about 5 M parameters. One carrier is 4 KiB in fp32. Few tokens a frame on purpose: they are most of
the cost of training and of absorbing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tokenizers
import torch
import transformers

from stream.marks import MARKS
from stream.model.card import Card
from stream.types import Pointer

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>", *MARKS)
CARD = Card(
    prefix="<|im_start|>",
    suffix="{question}<|im_start|>",  # a token is a tenth of a question here: no chat template
    rules="prompt_cache",
    caption="what passed last?",  # of all it was taught to answer, what says most of one event
    fold_case=True,  # capitals would have to be learned letter by letter
    positions="compact",
    carriers=24,
    trained=True,
    pointer=Pointer(layer=2, heads=(0, 1)),
)


def tokenizer(corpus: Iterable[str], vocabulary: int = 512) -> Any:
    """A byte-level BPE over `corpus`: every byte is in it, so no input can break it."""
    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(corpus, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )


def config(vocabulary: int, **text: Any) -> Any:
    """The tiny geometry; `text` overrides fields of the language model."""
    return transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=4,
            num_attention_heads=6,
            image_size=96,
            patch_size=16,
            vision_use_head=False,
        ),
        text_config=transformers.Qwen2Config(
            **{
                "vocab_size": vocabulary,
                "hidden_size": 256,
                "intermediate_size": 768,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 2048,
                "tie_word_embeddings": True,
                **text,
            }
        ),
        image_token_id=SPECIAL.index("<image>"),
        video_token_id=SPECIAL.index("<video>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )


def untrained(seed: int, vocabulary: int, **text: Any) -> Any:
    """A randomly initialised network of the tiny geometry; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.LlavaOnevisionForConditionalGeneration(config(vocabulary, **text)).eval()
