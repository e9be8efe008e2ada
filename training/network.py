"""The network: a small llama-architecture transformer, and the Muon optimizer for its matrices."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """The network's dimensions. `context` is what the GGUF file declares; training sequences are shorter."""

    vocabulary: int
    width: int = 192
    layers: int = 6
    heads: int = 6
    hidden: int = 512
    rope_base: float = 10000.0
    epsilon: float = 1e-5
    context: int = 4096


class Norm(nn.Module):
    """RMS normalisation."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions over the two halves of each head; `export` reorders rows to llama's pairs."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Block(nn.Module):
    """Attention and a gated feed-forward part, each with a residual connection."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.attention_norm = Norm(width, shape.epsilon)
        self.feed_norm = Norm(width, shape.epsilon)
        self.query, self.key, self.value, self.output = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.gate, self.up = (nn.Linear(width, shape.hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(shape.hidden, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows, length, width = x.shape
        h = self.attention_norm(x)
        joined = F.linear(h, torch.cat([self.query.weight, self.key.weight, self.value.weight]))
        q, k, v = joined.view(rows, length, 3, self.heads, -1).transpose(1, 3).unbind(2)
        mixed = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(rows, length, width))
        h = self.feed_norm(x)
        gate, up = F.linear(h, torch.cat([self.gate.weight, self.up.weight])).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Network(nn.Module):
    """The whole model; the output layer shares the embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width, shape.epsilon)
        for name, parameter in self.named_parameters():
            if name.endswith(("output.weight", "down.weight")):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                spread = 0.02 if "embedding" in name else 0.6 / math.sqrt(parameter.shape[1])
                nn.init.normal_(parameter, 0, spread)
        half = torch.arange(0, shape.width // shape.heads, 2).float() / (shape.width // shape.heads)
        self.register_buffer("frequencies", shape.rope_base**-half, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """The last hidden state of each position of a batch of token numbers."""
        angles = torch.arange(ids.shape[1]).float()[:, None] * self.frequencies[None]
        cos, sin = angles.cos(), angles.sin()
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """The logits behind hidden states."""
        return F.linear(hidden, self.embedding.weight)

    def matrices(self) -> list[nn.Parameter]:
        """The parameters that Muon updates."""
        return [p for n, p in self.named_parameters() if p.dim() == 2 and "embedding" not in n]

    def others(self) -> list[nn.Parameter]:
        """The embedding and the norms, which AdamW updates."""
        return [p for n, p in self.named_parameters() if p.dim() != 2 or "embedding" in n]


def orthogonalised(gradient: Tensor, steps: int = 5) -> Tensor:
    """The nearest orthogonal matrix, about, by a Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = gradient.shape[0] > gradient.shape[1]
    x = gradient.T if tall else gradient
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


class Muon:
    """Momentum whose steps are orthogonalised: several times fewer steps than Adam for small transformers."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], rate: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        self.parameters, self.rate, self.momentum, self.decay = list(parameters), rate, momentum, decay
        self.buffers = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients."""
        for parameter, buffer in zip(self.parameters, self.buffers, strict=True):
            gradient = parameter.grad
            if gradient is None:
                continue
            buffer.mul_(self.momentum).add_(gradient)
            update = orthogonalised(gradient + self.momentum * buffer)
            parameter.mul_(1 - self.rate * self.decay)
            scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
            parameter.add_(update, alpha=-self.rate * scale)
