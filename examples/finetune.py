"""Trains a model's decoder and vocoder further: ``python examples/finetune.py SPEECH OUT``.

SPEECH is a folder of audio files, or a tsv list with a column path. What comes out has the same
encoder and codebook, so what either model writes, both read:

    python examples/finetune.py speech mine --steps 500
    pcodec decode --model mine in.pcx out.wav

With --encoder the encoder learns too, through the choice of tokens. The loss is that of the mels
of the waveform at five resolutions; the whole training (docs/training.md) has more.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import pcodec.torch
from pcodec.audio import Samples, read
from pcodec.audio.clips import find_clips
from pcodec.train.losses import MultiResolutionMelLoss


def crops(clips: list[Samples], length: int, count: int, rng: np.random.Generator) -> torch.Tensor:
    """Random pieces of clips, (count, length); silence follows a clip that is shorter."""
    batch = np.zeros((count, length), np.float32)
    for row in batch:
        clip = clips[rng.integers(len(clips))]
        start = rng.integers(max(1, len(clip) - length + 1))
        piece = clip[start : start + length]
        row[: len(piece)] = piece
    return torch.from_numpy(batch)


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("speech", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", help="To start from; the shipped one unless given.")
    parser.add_argument("--encoder", action="store_true", help="Train the encoder too.")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0, help="Of a crop.")
    parser.add_argument("--rate", type=float, default=2e-5, help="Learning rate.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    net = pcodec.torch.load(options.model, device=options.device)
    net.encoder.requires_grad_(options.encoder)
    sample_rate = net.config.sample_rate
    measure = MultiResolutionMelLoss(sample_rate).to(options.device)
    clips = [read(path, sample_rate) for path, _ in find_clips(options.speech)]
    if len(clips) < 2:
        parser.error(f"{options.speech}: two clips at least, one of them to measure on")
    held = max(1, len(clips) // 10)
    length = round(options.seconds * sample_rate)
    rng = np.random.default_rng(0)
    unseen = crops(clips[:held], length, 8, rng).to(options.device)

    def loss_of(wav: torch.Tensor) -> torch.Tensor:
        coded = net(wav) if options.encoder else net.decode(net.encode(wav))[:, : wav.shape[1]]
        loss: torch.Tensor = measure(coded, wav)
        return loss

    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, options.rate, (0.8, 0.99))
    for step in range(options.steps + 1):
        if step % max(1, options.steps // 10) == 0:
            with torch.no_grad():
                print(f"step {step}: loss {loss_of(unseen):.4f} on clips held out", flush=True)
        if step == options.steps:
            break
        loss = loss_of(crops(clips[held:], length, options.batch, rng).to(options.device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    net.save(options.out)


if __name__ == "__main__":
    main()
