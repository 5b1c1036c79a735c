"""What a model is: geometry of the bitstream and sizes of the networks. No torch here."""

from __future__ import annotations

import dataclasses
from typing import Any

# What no model varies: the excitation's network of the spectral vocoder,
PITCH_WIDTH, PITCH_BLOCKS = 128, 2
# and the paper's vocoder (arXiv 2509.02244): its transposed convolutions,
STRIDES, KERNELS = (4, 4, 4, 2), (16, 16, 4, 4)
# residual blocks, and leaky activations.
RESIDUAL_KERNELS, DILATIONS = (3, 7, 11), (1, 3, 5)
SLOPE = 0.1


@dataclasses.dataclass(frozen=True)
class CodecConfig:
    """Geometry and sizes of a codec model. Times are in the unit that each name says."""

    sample_rate: int = 16000
    """Hz"""
    n_fft: int = 1024
    window: int = 512
    """samples; zero-padded to `n_fft`"""
    hop: int = 128
    """samples"""
    mel_bands: int = 80
    patch_bands: int = 4
    patch_frames: int = 4
    phase_rows: int = 4
    """rows of a column after those of the mel patches; they code the waveform of the low band"""
    low_bins: int = 32
    """bins of the vocoder's spectrum that the low band spans, from the first above 0 Hz"""
    bits: int = 10
    """bits an index; the codebook has 2**bits entries"""
    latent_dim: int = 12
    encoder_width: int = 320
    encoder_blocks: int = 4
    decoder_width: int = 320
    decoder_blocks: int = 4
    decoder_fine_width: int = 160
    decoder_fine_blocks: int = 4
    decoder_look_ahead: int = 1
    """columns"""
    vocoder_width: int = 320
    vocoder_blocks: int = 8
    vocoder_n_fft: int = 512
    vocoder_look_ahead: int = 1
    """frames"""
    hifigan_width: int = 160
    concealment_width: int = 320
    concealment_blocks: int = 3

    def __post_init__(self) -> None:
        if self.mel_bands % self.patch_bands:
            raise ValueError("mel_bands must be a multiple of patch_bands")
        if self.rows * self.bits % 8:
            raise ValueError(f"a column of {self.rows} x {self.bits} bits does not fill bytes")
        if self.vocoder_n_fft % self.hop or self.window < self.hop:
            raise ValueError("vocoder_n_fft must be a multiple of hop, window no less than it")

    @property
    def rows(self) -> int:
        """Indices per column."""
        return self.mel_rows + self.phase_rows

    @property
    def mel_rows(self) -> int:
        """Mel patches per column."""
        return self.mel_bands // self.patch_bands

    @property
    def codebook_entries(self) -> int:
        return 1 << self.bits

    @property
    def column_samples(self) -> int:
        return self.hop * self.patch_frames

    @property
    def bit_rate(self) -> float:
        """bit/s of the bare indices."""
        return self.rows * self.bits * self.sample_rate / self.column_samples

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
