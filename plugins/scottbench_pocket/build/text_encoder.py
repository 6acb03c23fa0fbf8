"""Tokenizer of whole words, and the contrastive warm start of the generator's text encoder.

The image tower used here is thrown away: it only tells the text encoder which captions look alike.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import common

POSITIONS = 24
WIDTH = 128
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
# CLIPTokenizer's own pre-tokenisation (its digits stand alone), on text that is already lower case.
PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+", re.UNICODE)


def alphabet() -> list[str]:
    """The 256 printable stand-ins for bytes that byte-level tokenizers use, in their usual order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + n) for n in range(len(rest))]


def byte_symbols(word: str) -> tuple[str, ...]:
    """A word as stand-ins for its UTF-8 bytes; the last one carries the end-of-word mark."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = dict(zip(plain + [b for b in range(256) if b not in plain], alphabet()))
    symbols = [table[b] for b in word.encode()]
    return (*symbols[:-1], symbols[-1] + "</w>")


def merges_for(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges that end with every given word as one token: merge the commonest pair until no word has a pair left."""
    splits, counts, places, merges = [byte_symbols(w) for w in sorted(set(words))], Counter(), defaultdict(set), []
    for index, symbols in enumerate(splits):
        _count(symbols, index, 1, counts, places)
    while counts:
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        for index in list(places[best]):
            _count(splits[index], index, -1, counts, places)
            splits[index] = _merge(splits[index], best)
            _count(splits[index], index, 1, counts, places)
    return merges


def _count(symbols: tuple[str, ...], index: int, sign: int, counts: Counter, places: dict[tuple, set[int]]) -> None:
    """Enter (sign 1) or strike (sign -1) one word's pairs; a pair that no word has is dropped."""
    for pair in zip(symbols, symbols[1:]):
        counts[pair] += sign
        if counts[pair] == 0:
            del counts[pair]
        (places[pair].add if sign > 0 else places[pair].discard)(index)


def _merge(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    result, position = [], 0
    while position < len(symbols):
        if symbols[position:position + 2] == pair:
            result.append(pair[0] + pair[1])
            position += 2
        else:
            result.append(symbols[position])
            position += 1
    return tuple(result)


def make_tokenizer(captions: list[str], folder: Path) -> CLIPTokenizer:
    """A CLIPTokenizer with one token a caption word; an unknown word falls apart into shorter pieces, at worst into bytes.

    Written to `folder`, or read from it when it is there: the merges take a minute.
    """
    if (folder / "vocab.json").exists():
        return CLIPTokenizer.from_pretrained(folder)
    merges = merges_for([piece for caption in captions for piece in PIECES.findall(caption.lower())])
    tokens = [*alphabet(), *(a + "</w>" for a in alphabet()), *(a + b for a, b in merges), BEGIN, END]
    tokens = list(dict.fromkeys(tokens))
    folder.mkdir(parents=True, exist_ok=True)
    common.write_json(folder / "vocab.json", {token: index for index, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    common.write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": POSITIONS, "bos_token": BEGIN, "eos_token": END, "pad_token": END,
        "unk_token": END, "errors": "replace", "add_prefix_space": False, "do_lower_case": True,
    })
    common.write_json(folder / "special_tokens_map.json", {"bos_token": BEGIN, "eos_token": END, "pad_token": END, "unk_token": END})
    return CLIPTokenizer.from_pretrained(folder)


def build(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Three layers of width 128."""
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, projection_dim=WIDTH, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=POSITIONS, hidden_act="quick_gelu", attention_dropout=0.0,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    ))


def tokens(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """(N,24) int64, padded and cut as StableDiffusionPipeline does it."""
    return tokenizer(captions, padding="max_length", max_length=POSITIONS, truncation=True, return_tensors="pt").input_ids


class Warm(nn.Module):
    """Text encoder, throw-away image tower on latents (N,4,16,16), two heads to 128 unit features and a temperature."""

    def __init__(self, text: CLIPTextModel):
        super().__init__()
        self.text, self.head = text, nn.Linear(WIDTH, 128)
        layers, width = [], 4
        for out, stride in ((64, 1), (96, 2), (128, 2), (192, 2)):
            layers += [nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.SiLU()]
            width = out
        self.image = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 4, 128))
        self.scale = nn.Parameter(torch.tensor(2.6))

    def forward(self, ids: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Symmetric InfoNCE of ids (N,24) and latents (N,4,16,16)."""
        text = F.normalize(self.head(self.text(ids).pooler_output), dim=-1)
        image = F.normalize(self.image(latents), dim=-1)
        logits = self.scale.exp().clamp(max=100) * text @ image.T
        target = torch.arange(len(ids))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def main() -> None:
    """Make tokenizer and latents, and warm the text encoder up."""
    from . import autoencoder

    arguments = common.parser(__doc__, minutes=2.5).parse_args()
    common.start(arguments)
    images, captions = common.load_split("train", arguments.data)
    vae = autoencoder.AutoencoderKL.from_pretrained(arguments.work / "vae")
    latents = autoencoder.encode(vae, images)
    held_images, held_captions = common.load_split("evaluation", arguments.data)
    torch.save({"train": latents, "train_captions": captions, "evaluation": autoencoder.encode(vae, held_images[::5]),
                "evaluation_captions": held_captions[::5]}, arguments.work / "latents.pt")
    tokenizer = make_tokenizer(captions, arguments.work / "tokenizer")
    ids = tokens(tokenizer, captions)
    model = Warm(build(tokenizer))
    optimizer = torch.optim.AdamW([{"params": model.parameters(), "peak": 1e-3}], betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    clock, step = common.Clock(arguments.minutes), 0
    while clock.fraction < 1:
        common.set_rate(optimizer, common.rate(clock.fraction))
        pick = torch.randint(len(ids), (256,))
        loss = model(ids[pick], latents[pick] + 0.1 * torch.randn(256, 4, 16, 16))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), optimizer.zero_grad()
        step += 1
        if step % 50 == 0:
            common.log(f"step {step} loss {loss.item():.3f} scale {model.scale.exp().item():.1f} elapsed {clock.elapsed:.0f} s")
    model.text.save_pretrained(arguments.work / "text_encoder")


if __name__ == "__main__":
    main()
