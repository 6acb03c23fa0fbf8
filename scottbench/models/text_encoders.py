"""The two text encoders of Stable Diffusion XL as one network: both see the prompt, each by its own tokenizer."""

from __future__ import annotations

import torch
from torch import Tensor


class TwoEncoders(torch.nn.Module):
    """Tokens of both tokenizers to the hidden states of both, side by side, and the second's projected vector."""

    def __init__(self, first: torch.nn.Module, second: torch.nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, tokens: Tensor, tokens_2: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden states (n,L,D1+D2), of the layer before the last as the U-Net was trained with (Podell et al. 2023), and the
        pooled (n,P) of tokens (n,L) and tokens_2 (n,L)."""
        one, two = self.first(tokens, output_hidden_states=True), self.second(tokens_2, output_hidden_states=True)
        return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1), two.text_embeds
