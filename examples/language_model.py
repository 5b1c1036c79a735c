"""A small language model of speech: ``python examples/language_model.py TOKENS OUT.wav``.

TOKENS is a folder that `pcodec tokens` made, of Parquet files. A causal Transformer learns to
foresee the tokens of a step from those of the steps before it, with the rows delayed (MusicGen's
pattern, `pcodec.tokens.delay`). It tells how many bits a token of clips that it has not seen
costs, and goes on from the first seconds of one of them: that is OUT.wav.

    pcodec tokens speech -o tokens
    python examples/language_model.py tokens said.wav --steps 2000
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pcodec
from pcodec.codec import Codec
from pcodec.pcx.packing import Indices
from pcodec.tokens import delay, undelay


class Model(nn.Module):
    """A step's tokens go in as the latents that they stand for; each row has its own way out."""

    def __init__(self, codec: Codec, steps: int, width: int, layers: int, inner: int = 48) -> None:
        super().__init__()
        rows, entries = codec.rows, codec.vocab_size
        # The pad, which is the last id, is silence: a latent of zeros.
        latents = torch.from_numpy(np.pad(codec.codebook, ((0, 1), (0, 0))))
        self.latents = nn.Embedding.from_pretrained(latents)
        self.enter = nn.Linear(rows * latents.shape[1], width)
        self.places = nn.Parameter(0.02 * torch.randn(steps, width))
        layer = nn.TransformerEncoderLayer(
            width, width // 32, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), False)
        self.leave = nn.Linear(width, rows * inner)
        self.entries = nn.Linear(inner, entries, bias=False)
        self.bias = nn.Parameter(torch.zeros(rows, entries))

    def forward(self, steps: Tensor) -> Tensor:
        """Steps (batch, n, rows) -> logits of those that follow, (batch, n, rows, entries)."""
        n, rows = steps.shape[1:]
        x = self.enter(self.latents(steps).flatten(2)) + self.places[:n]
        mask = nn.Transformer.generate_square_subsequent_mask(n, steps.device)
        x = self.body(x, mask, is_causal=True)
        logits: Tensor = self.entries(self.leave(x).unflatten(-1, (rows, -1))) + self.bias
        return logits


def windows(grids: list[Indices], columns: int, pad: int, count: int, seed: int) -> Tensor:
    """Random stretches of clips, delayed: (count, columns + rows - 1, rows)."""
    rng = np.random.default_rng(seed)
    steps = []
    for _ in range(count):
        grid = grids[rng.integers(len(grids))]
        start = rng.integers(max(1, len(grid) - columns + 1))
        one = delay(grid[start : start + columns], pad)
        missing = columns + grid.shape[1] - 1 - len(one)
        steps.append(np.pad(one, ((0, missing), (0, 0)), constant_values=pad))
    return torch.from_numpy(np.stack(steps))


def loss_of(model: Model, steps: Tensor, pad: int) -> Tensor:
    """Cross-entropy of the tokens after the first step, bits per token."""
    logits = model(steps[:, :-1])
    nats = F.cross_entropy(logits.flatten(0, 2), steps[:, 1:].flatten(), ignore_index=pad)
    return nats / math.log(2)


def without_context(grids: list[Indices], unseen: list[Indices], entries: int) -> float:
    """Bits per token for who knows how often each comes in its row, and no more."""
    seen, new = np.concatenate(grids), np.concatenate(unseen)
    bits = []
    for row in range(seen.shape[1]):
        counts = np.bincount(seen[:, row], minlength=entries) + 0.1
        bits.append(-np.log2(counts / counts.sum())[new[:, row]].mean())
    return float(np.mean(bits))


@torch.inference_mode()
def go_on(model: Model, prompt: Indices, steps: int, pad: int, temperature: float) -> Indices:
    """Tokens (columns, rows) of a prompt and what follows it, as many columns as steps hold."""
    sequence = torch.from_numpy(delay(prompt, pad)[: len(prompt)])[None]
    while sequence.shape[1] < steps:
        logits = model(sequence)[0, -1] / temperature
        # Of each row the likelier entries, which together have nine tenths of the probability.
        shares, order = logits.softmax(-1).sort(descending=True)
        shares = shares.masked_fill(shares.cumsum(-1) - shares > 0.9, 0.0)
        new = order.gather(-1, torch.multinomial(shares, 1))
        sequence = torch.cat([sequence, new.T[None]], 1)
    return undelay(sequence[0], pad)


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokens", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0, help="That the model sees.")
    parser.add_argument(
        "--prompt", type=float, default=1.5, help="Seconds of speech to go on from."
    )
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3, help="Learning rate at its peak.")
    parser.add_argument("--temperature", type=float, default=0.9)
    options = parser.parse_args()

    codec = pcodec.load()
    pad = codec.vocab_size
    table = pq.read_table(options.tokens, filters=pc.field("error").is_null())
    grids = [row.values.flatten().to_numpy().reshape(-1, codec.rows) for row in table["tokens"]]
    columns = round(options.seconds * codec.frame_rate)
    held = max(1, len(grids) // 10)
    unseen, seen = grids[:held], grids[held:]
    if not seen:
        parser.error(f"{options.tokens}: two clips at least, one of them to measure on")
    hours = sum(map(len, seen)) / codec.frame_rate / 3600
    print(f"{len(seen)} clips, {hours:.2f} h, to learn from; {len(unseen)} to measure on")
    print(f"without context: {without_context(seen, unseen, pad):.2f} bits per token")

    torch.manual_seed(0)
    model = Model(codec, columns + codec.rows - 1, options.width, options.layers)
    optimizer = torch.optim.AdamW(model.parameters(), options.rate, (0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, options.steps + 1)
    test = windows(unseen, columns, pad, 16, seed=0)
    for step in range(options.steps + 1):
        if step % max(1, options.steps // 10) == 0:
            model.eval()
            with torch.inference_mode():
                bits = loss_of(model, test, pad)
            print(f"step {step}: {bits:.2f} bits per token of clips not seen", flush=True)
            model.train()
        if step == options.steps:
            break
        loss = loss_of(model, windows(seen, columns, pad, options.batch, seed=step + 1), pad)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()

    model.eval()
    prompt = max(unseen, key=len)[: round(options.prompt * codec.frame_rate)]
    said = go_on(model, prompt, columns + codec.rows - 1, pad, options.temperature)
    soundfile.write(options.out, codec.from_tokens(said), codec.config.sample_rate)
    print(f"{options.out}: {len(prompt)} columns of speech, {len(said) - len(prompt)} made up")


if __name__ == "__main__":
    main()
