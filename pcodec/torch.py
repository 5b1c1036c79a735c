"""The codec as a module of torch: batches, any device, gradients from the samples to the weights.

It computes in floating point what `pcodec.Codec` computes in whole numbers of 8 and 16 bits: the
same networks, close results, not the same bits. To train through, not to store files with.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec import models
from pcodec.errors import PcodecError
from pcodec.networks.checkpoint import Networks
from pcodec.networks.mel import level_of, normalize
from pcodec.runtime.biquad import high_pass, low_shelf

NO_TOKEN = -1
"""Stands after the last column of a clip that is shorter than others of its batch."""

Lengths: TypeAlias = "Tensor | Sequence[int]"


def load(
    name: str | None = None,
    vocoder: str = "spectral",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TorchCodec:
    """A model with trained weights, by its name or the path of its folder; the shipped one if None.

    device: where it is to be. dtype: of the products; parameters stay float32, and what has to
    be exact is computed in it. PcodecError if there is no such model, or no such vocoder of it.

        net = pcodec.torch.load()
        wav = net(wav)  # (batch, n) at 16 kHz, with gradients
    """
    return TorchCodec(models.find(name), vocoder, dtype).to(device)


class TorchCodec(nn.Module):
    """A codec whose `encoder`, `decoder` and `vocoder` can be trained.

    The codebook is a buffer: it has no gradient, and tokens go on to mean the same.
    """

    high_pass: Tensor
    low_shelf: Tensor

    def __init__(
        self, model: models.Model, vocoder: str = "spectral", dtype: torch.dtype = torch.float32
    ) -> None:
        """As `load`, which is what to call."""
        super().__init__()
        if vocoder not in model.vocoders:
            raise PcodecError(f"model {model.name} has no vocoder {vocoder!r}")
        self.model, self.config, self.dtype = model, model.config, dtype
        self.parts = ("encoder", "codebook", "decoder", vocoder)
        networks = Networks(self.config, self.parts)
        networks.load(model.folder, self.parts)
        self.networks = networks
        self.encoder, self.decoder, self.quantizer = (
            networks.encoder,
            networks.decoder,
            networks.quantizer,
        )
        self.vocoder: nn.Module = getattr(networks, vocoder)
        # All of the filters that float32 can hold: after 0.2 s their responses are below 1e-9.
        rate = self.config.sample_rate
        for name, biquad in ("high_pass", high_pass(rate)), ("low_shelf", low_shelf(rate)):
            response = torch.from_numpy(biquad.response(0.2, rate)).float()
            self.register_buffer(name, response, persistent=False)

    @property
    def device(self) -> torch.device:
        return self.high_pass.device

    def encode(self, wav: Tensor, lengths: Lengths | None = None) -> Tensor:
        """Samples (batch, n) at the codec's rate -> tokens (batch, columns, rows), int64.

        lengths: samples of each clip, where they differ; after the columns that hold them stands
        `NO_TOKEN`. No gradient passes: `forward` lets it through. ValueError if a shape is wrong.
        """
        with torch.no_grad():
            tokens = self.quantizer.nearest(self.latents(wav, lengths))
        if lengths is not None:
            after = torch.arange(tokens.shape[1], device=tokens.device)
            ended = after >= self._columns(self._lengths(wav, lengths))[:, None]
            tokens = tokens.masked_fill(ended[..., None], NO_TOKEN)
        return tokens

    def decode(self, tokens: Tensor, lengths: Lengths | None = None) -> Tensor:
        """Tokens (batch, columns, rows) -> samples (batch, n), with gradients to the weights.

        n is the samples that the columns hold, or the longest of ``lengths``; zeros stand after
        the end of a clip, which is where its tokens end.
        """
        columns = (tokens >= 0).all(-1).sum(1)
        latents = self.quantizer.lookup(tokens.clamp(min=0))
        return self.synthesize(latents, columns, lengths)

    def forward(self, wav: Tensor, lengths: Lengths | None = None) -> Tensor:
        """Samples (batch, n) -> samples (batch, n) that went through tokens.

        The gradient passes straight through the choice of tokens, to encoder and samples.
        lengths: of clips, where they differ.
        """
        known = self._lengths(wav, lengths)
        latents, _ = self.quantize(self.latents(wav, lengths))
        return self.synthesize(latents, self._columns(known), known)[:, : wav.shape[1]]

    def latents(self, wav: Tensor, lengths: Lengths | None = None) -> Tensor:
        """Samples (batch, n) -> latents (batch, columns, rows, dim), before tokens are chosen."""
        known = self._lengths(wav, lengths)
        step = self.config.column_samples
        wav = wav.float()
        wav = F.pad(self._ended(wav, known), (0, -wav.shape[1] % step))
        if not wav.shape[1]:
            return wav.new_zeros((len(wav), 0, self.config.rows, self.config.latent_dim))
        # The high pass rings until the end of a clip's last column, and no longer.
        filtered = self._ended(_filtered(wav, self.high_pass), self._columns(known) * step)
        mel, low = self.networks.mel(filtered)
        with self._autocast():
            latents: Tensor = self.encoder(mel, normalize(low, level_of(low, self.encoder.frames)))
        return latents.float()

    def quantize(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (..., dim) -> the nearest entries of the codebook, and tokens (...).

        The gradient of the entries is passed on to the latents as it is.
        """
        codes = self.quantizer(latents)
        return codes.latents, codes.indices

    def synthesize(
        self, latents: Tensor, columns: Lengths | None = None, lengths: Lengths | None = None
    ) -> Tensor:
        """Latents (batch, columns, rows, dim) -> samples (batch, n), with gradients to both.

        columns, lengths: of each clip, columns and samples to keep; None for all.
        """
        batch, most = latents.shape[:2]
        step = self.config.column_samples
        counts = [most] * batch if columns is None else [int(x) for x in columns]
        cut = [count * step for count in counts]
        if lengths is not None:
            cut = [min(full, int(x)) for full, x in zip(cut, lengths, strict=True)]
        # A clip ends as a stream does, so those of other lengths are batches of their own.
        pieces: dict[int, Tensor] = {}
        for count in sorted(set(counts)):
            members = [i for i in range(batch) if counts[i] == count]
            samples = self._synthesize(latents[members, :count])
            pieces.update(zip(members, samples, strict=True))
        n = max(cut, default=0)
        return torch.stack([F.pad(pieces[i][: cut[i]], (0, n - cut[i])) for i in range(batch)])

    def save(self, folder: Path | str) -> None:
        """Writes a model folder, which `pcodec` takes as --model and `load` as a name.

        Weights are stored as float16. The concealment is that of the model it came from.
        """
        folder = Path(folder)
        self.networks.save(folder, self.parts, self.model.folder)
        for kept in ("concealment.safetensors", "concealment.onnx"):
            source, target = self.model.folder / kept, folder / kept
            if source.exists() and not (target.exists() and source.samefile(target)):
                shutil.copy(source, target)

    def _synthesize(self, latents: Tensor) -> Tensor:
        """Of clips of one length. There are no samples of no columns."""
        if not latents.shape[1]:
            return latents.new_zeros((len(latents), 0))
        with self._autocast():
            mel, low = self.decoder(latents)
            samples: Tensor = self.vocoder(mel.float(), low.float())
        return _filtered(samples.float(), self.low_shelf).clamp(-1, 1)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32)

    def _lengths(self, wav: Tensor, lengths: Lengths | None) -> Tensor:
        """The samples of each clip; ValueError if there cannot be as many."""
        if wav.ndim != 2:
            raise ValueError(f"samples of shape {tuple(wav.shape)}, not (batch, n)")
        if lengths is None:
            lengths = [wav.shape[1]] * len(wav)
        known = torch.as_tensor(lengths, device=wav.device)
        if known.shape != wav.shape[:1] or ((known < 0) | (known > wav.shape[1])).any():
            raise ValueError(f"lengths {known.tolist()} of clips in {tuple(wav.shape)}")
        return known

    def _columns(self, lengths: Tensor) -> Tensor:
        return -(-lengths // self.config.column_samples)

    @staticmethod
    def _ended(wav: Tensor, lengths: Tensor) -> Tensor:
        """Samples with silence after each clip's end."""
        return wav.masked_fill(
            torch.arange(wav.shape[1], device=wav.device) >= lengths[:, None], 0.0
        )


def _filtered(wav: Tensor, response: Tensor) -> Tensor:
    """Samples (batch, n) through a filter, which begins with silence."""
    size = wav.shape[1] + len(response)
    spectrum = torch.fft.rfft(wav, size) * torch.fft.rfft(response, size)
    return torch.fft.irfft(spectrum, size)[:, : wav.shape[1]]
