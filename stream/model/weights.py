"""Weights in fewer bytes: writing a word reads every weight of the language model once, so their bytes are its time.

    native    as the checkpoint is loaded
    float16   two bytes a weight, multiplied in fp32: what is lost is below what bfloat16 loses (CPU)
    int8      one byte a weight, a scale per output; on a CPU a token's own activations become bytes too

On a CPU both are FBGEMM's kernels, which torch ships; on a GPU int8 is torchao's weight-only kind. `nn.Linear` modules
are replaced after the checkpoint is loaded; no forward is touched. Tower, projector and embeddings stay native.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stream.errors import ModelError

KINDS = ("native", "float16", "int8")
WEIGHT_MAX = 63  # AVX2 adds two products of a weight and an activation in 16 bits: 2 * 63 * 255 fits, 2 * 127 * 255 not
ZERO = 127  # the byte that stands for an activation of 0; the token's largest is ZERO more or less


class Packed(nn.Module, ABC):
    """A linear layer over FBGEMM's packed weights: [..., in] -> [..., out] in the input's dtype."""

    bias: nn.Parameter | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_parameter("bias", linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """`states` [..., in] through the layer."""
        out = self.product(states.float())
        return (out if self.bias is None else out.add_(self.bias)).to(states.dtype)

    @abstractmethod
    def product(self, states: Tensor) -> Tensor:
        """`states` [..., in] times the weights, fp32."""


class Float16Linear(Packed):
    """Weights of two bytes, widened in registers; activations and sums are fp32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self._packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.float(), None)

    def product(self, states: Tensor) -> Tensor:
        """See Packed."""
        return torch.ops.quantized.linear_dynamic_fp16(states, self._packed)  # type: ignore[no-any-return]


class Int8Linear(Packed):
    """Weights of one byte with a scale per output. Each token's activations get a scale of their own, so that a batch
    gives what its rows give one by one (FBGEMM's own dynamic layer has one scale for the whole batch)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight = linear.weight.float()
        scales = weight.abs().amax(1).clamp_min(1e-12).double() / WEIGHT_MAX
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():  # torch means to drop this dtype one day; its pinned release has it
            warnings.simplefilter("ignore", UserWarning)
            packed = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(packed, None)

    def product(self, states: Tensor) -> Tensor:
        """See Packed."""
        peak = states.abs().amax(-1, keepdim=True).clamp_min_(1e-12)
        multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        return multiply(states / peak, 1 / ZERO, ZERO, self._packed).mul_(peak)  # type: ignore[no-any-return]


def repack(net: Any, kind: str) -> None:
    """Replace the language model's and the head's linear layers in `net`, in place. Raises ModelError where `kind`
    is none of KINDS or this machine has no kernels for it."""
    if kind not in KINDS:
        raise ModelError(f"model.weights: {kind!r} is none of {', '.join(KINDS)}")
    if kind == "native":
        return
    if net.device.type == "cuda":
        _on_gpu(net, kind)
        return
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        raise ModelError(f"model.weights: {kind} needs an x86 processor or a GPU; use native")
    layer = Float16Linear if kind == "float16" else Int8Linear
    with _fbgemm():
        for parent in list(net.model.language_model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(parent, name, layer(child))
        net.lm_head = layer(net.lm_head)  # a tied embedding keeps its own: rows are looked up there, not multiplied


def _on_gpu(net: Any, kind: str) -> None:
    if kind == "float16":
        raise ModelError("model.weights: float16 is for processors; on a GPU native is bfloat16, as short; or use int8")
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise ModelError("model.weights: int8 on a GPU needs torchao: pip install 'longwatch[gpu]'") from error
    for part in (net.model.language_model, net.lm_head):
        quantize_(part, Int8WeightOnlyConfig())


@contextmanager
def _fbgemm() -> Iterator[None]:
    """Pack for FBGEMM, whatever the processor makes torch prefer: one set of kernels, one set of numbers."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        yield
    finally:
        torch.backends.quantized.engine = before
