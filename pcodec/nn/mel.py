"""Log-mel front end and short-time Fourier transforms, framed for streaming."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.config import CodecConfig
from pcodec.nn.streaming import Past


def mel_filters(bands: int, n_fft: int, sample_rate: int) -> Tensor:
    """Slaney mel filters of unit area, (bands, n_fft // 2 + 1), 0 Hz to Nyquist.

    The Auditory Toolbox scale (Slaney 1998): linear below 1 kHz, logarithmic above.
    """

    def to_mel(hz: Tensor) -> Tensor:
        log = 15 + torch.log(hz.clamp(min=1000) / 1000) * (27 / torch.log(torch.tensor(6.4)))
        return torch.where(hz < 1000, hz * (3 / 200), log)

    def to_hz(mel: Tensor) -> Tensor:
        log = 1000 * torch.exp((mel - 15) * (torch.log(torch.tensor(6.4)) / 27))
        return torch.where(mel < 15, mel * (200 / 3), log)

    nyquist = torch.tensor(sample_rate / 2, dtype=torch.float64)
    edges = to_hz(torch.linspace(0, float(to_mel(nyquist)), bands + 2, dtype=torch.float64))
    bins = torch.linspace(0, float(nyquist), n_fft // 2 + 1, dtype=torch.float64)
    low, centre, high = (edges[i : i + bands, None] for i in range(3))
    rise, fall = (bins - low) / (centre - low), (high - bins) / (high - centre)
    filters = torch.minimum(rise, fall).clamp(min=0) * 2 / (high - low)
    return filters.float()


def squared_length(vectors: Tensor) -> Tensor:
    """Of (..., 2), as `torch.view_as_real` gives, to (...). `sum(-1)` takes ten times as long."""
    squares = vectors.square()
    return squares[..., 0] + squares[..., 1]


def mel_inverse(config: CodecConfig) -> Tensor:
    """Non-negative pseudo-inverse of the mel filters, (bands, vocoder_n_fft // 2 + 1).

    As FreeV's, with bands scaled so that mel(inverse(mel)) has about the same level.
    """
    filters = mel_filters(config.mel_bands, config.vocoder_n_fft, config.sample_rate)
    inverse = torch.linalg.pinv(filters).clamp(min=0)
    inverse = inverse / (filters @ inverse).diagonal().clamp(min=0.3)
    transposed: Tensor = inverse.T.contiguous()
    return transposed


class MelSpectrogram(nn.Module):
    """Samples to log-mel frames: natural log of mel-filtered magnitudes, floor 1e-5.

    Frame f is centred on hop f: it sees samples ``hop * f - overhang ... hop * (f + 1) +
    overhang`` with ``overhang = (window - hop) / 2``.
    """

    FLOOR = 1e-5
    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, n_fft: int, window: int, hop: int, bands: int) -> None:
        super().__init__()
        self.n_fft, self.hop, self.overhang = n_fft, hop, (window - hop) // 2
        self.register_buffer("window", torch.hann_window(window))
        self.register_buffer("filters", mel_filters(bands, n_fft, sample_rate))

    def frames(self, x: Tensor) -> Tensor:
        """Samples with ``overhang`` more on both sides -> log-mel (B, frames, bands)."""
        pieces = x.unfold(-1, len(self.window), self.hop)
        spectrum = torch.view_as_real(torch.fft.rfft(pieces * self.window, self.n_fft))
        magnitude = squared_length(spectrum).sqrt()
        return (magnitude @ self.filters.T).clamp(min=self.FLOOR).log()

    def forward(self, x: Tensor, past: Past | None = None, last: bool = True) -> Tensor:
        """Samples (B, n) -> log-mel (B, frames, bands); n a multiple of the hop if last."""
        before = None if past is None else past.get(self)
        if before is None:
            before = x.new_zeros(x.shape[0], self.overhang)
        x = torch.cat([before, x], 1)
        if last:
            x = F.pad(x, (0, self.overhang))
        count = max(0, (x.shape[1] - len(self.window)) // self.hop + 1)
        if past is not None and not last:
            past[self] = x[:, count * self.hop :]
        if not count:
            return x.new_zeros(x.shape[0], 0, self.filters.shape[0])
        return self.frames(x[:, : (count - 1) * self.hop + len(self.window)])


class InverseSTFT(nn.Module):
    """Overlap-add of windowed frames, framed as in `MelSpectrogram`, normalised exactly."""

    window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop, self.overhang = n_fft, hop, (n_fft - hop) // 2
        self.register_buffer("window", torch.hann_window(n_fft))

    @staticmethod
    def _memory(total: Tensor) -> Tensor:
        return torch.stack([total[:-1], total[-1:].expand_as(total[:-1])], 1)

    def forward(self, spectrum: Tensor, past: Past | None = None, last: bool = True) -> Tensor:
        """Complex (B, frames, n_fft // 2 + 1) -> samples (B, n); n = frames * hop offline.

        In a stream the output trails by the overhang, which the last call puts out.
        """
        batch, frames, _ = spectrum.shape
        slices = self.n_fft // self.hop
        if frames:
            pieces = torch.fft.irfft(spectrum, self.n_fft) * self.window
        else:
            pieces = spectrum.real.new_zeros(batch, 0, self.n_fft)
        # One more row, of squared windows: their sum is what the frames were scaled by.
        weights = self.window.square().expand(1, frames, self.n_fft)
        pieces = torch.cat([pieces, weights], 0).view(batch + 1, frames, slices, self.hop)
        memory = None if past is None else past.get(self)
        if memory is None:
            before = pieces.new_zeros(batch + 1, slices - 1, self.hop)
        else:  # (B, 2, ...), so that streams can share a batch
            before = torch.cat([memory[:, 0], memory[:1, 1]])
        # A stream's memory is the sum of the frames' tails, or, until more than the first
        # overhang is known, of whole frames.
        held = before.shape[1] - (slices - 1)
        total = F.pad(before, (0, 0, 0, frames))
        for i in reversed(range(slices)):  # earlier frames first, as chunk by chunk
            total[:, held + i : held + i + frames] += pieces[:, :, i]
        starting = memory is None or held > 0
        ready = held + frames
        if past is not None and not last:
            if starting and ready * self.hop <= self.overhang:
                if ready:
                    past[self] = self._memory(total)
                return total.new_zeros(batch, 0)
            past[self] = self._memory(total[:, ready:])
            total = total[:, :ready]
        samples = total[:-1].flatten(1) / total[-1:].flatten(1).clamp(min=1e-6)
        start = self.overhang if starting else 0
        stop = samples.shape[1] - (self.n_fft - self.hop - self.overhang if last else 0)
        return samples[:, start:stop]
