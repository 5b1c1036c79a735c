"""Geometry of the bitstream, and sizes of the networks. Needs no torch."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

COLUMN_KERNEL, FRAME_KERNEL = 5, 7
"""Taps of the ConvNeXt blocks at the column rate, and of all convolutions at the frame rate."""

CONCEALMENT_TAPS, CONCEALMENT_LOOK_AHEAD = 4, 1
"""Columns that the first layer of the concealment sees; how many of them are look-ahead."""

PITCH_WIDTH, PITCH_BLOCKS = 128, 2
"""Size of the pitch network of the vocoders; the same in every model."""

SOURCE_BLOCKS = 3
"""Blocks of the network that predicts the amplitudes of HiFi-GAN's source."""

ENTROPY_NEAR, ENTROPY_FAR = (1, 2, 3, 4), (0, 3, 6)
"""Context of the entropy model, in columns back from the current one: where its first layer sees
indices, and where its second layer sees outputs of the first."""

ENTROPY_MAX = 127
"""Largest activation, and largest absolute weight, of the entropy model; both are integers."""

HIFIGAN_RESIDUAL_KERNELS, HIFIGAN_DILATIONS = (3, 7, 11), (1, 3, 5)
HIFIGAN_SLOPE = 0.1
"""Residual blocks and leaky activations of HiFi-GAN (Kong et al. 2020); the same in every model."""


@dataclasses.dataclass(frozen=True)
class CodecConfig:
    """Geometry and sizes of a codec model. Numbers of samples and columns have their unit below."""

    sample_rate: int = 16000
    """Hz"""
    n_fft: int = 1024
    window: int = 512
    """Samples; zero-padded to `n_fft`."""
    hop: int = 128
    """Samples."""
    mel_bands: int = 80
    patch_bands: int = 4
    patch_frames: int = 4
    phase_rows: int = 4
    """Rows per column after those of the mel patches; they code the waveform of the low band."""
    low_bins: int = 32
    """Bins of the vocoder's spectrum in the low band, from the first above 0 Hz."""
    bits: int = 10
    """Bits per index; the codebook has 2**bits entries."""
    latent_dim: int = 12
    encoder_width: int = 320
    encoder_blocks: int = 4
    decoder_width: int = 320
    decoder_blocks: int = 4
    decoder_fine_width: int = 160
    decoder_fine_blocks: int = 4
    decoder_look_ahead: int = 1
    """Columns."""
    vocoder_width: int = 320
    vocoder_blocks: int = 8
    vocoder_n_fft: int = 512
    vocoder_look_ahead: int = 1
    """Frames."""
    hifigan_width: int = 160
    hifigan_strides: tuple[int, ...] = (4, 4, 4, 2)
    """Strides of the transposed convolutions; their product is `hop`."""
    hifigan_kernels: tuple[int, ...] = (16, 16, 4, 4)
    concealment_width: int = 320
    concealment_blocks: int = 3
    entropy_width: int = 320
    entropy_hidden: int = 96
    entropy_dim: int = 12
    """Dimensions of the embedding of an index."""

    def __post_init__(self) -> None:
        """Raises ValueError, naming the field, if no codec of these sizes can be built."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, tuple):
                object.__setattr__(self, field.name, tuple(value))  # JSON knows lists only
            elif type(value) is not int or value < (0 if "look_ahead" in field.name else 1):
                raise ValueError(f"{field.name} = {value!r} is not a positive whole number")
        self._check(self.bits <= 16, "bits must be at most 16")
        self._check(
            self.mel_bands % self.patch_bands == 0, "mel_bands must be a multiple of patch_bands"
        )
        column = f"a column of {self.rows} x {self.bits} bits must fill whole bytes"
        self._check(self.rows * self.bits % 8 == 0, column)
        self._check(self.n_fft % self.window == 0, "n_fft must be a multiple of window")
        same = "vocoder_n_fft must be window: the low band is coded in the vocoder's bins"
        self._check(self.vocoder_n_fft == self.window, same)
        overlap = "window must be a multiple of hop, and more than one"
        self._check(self.window % self.hop == 0 and self.window > self.hop, overlap)
        self._check((self.window - self.hop) % 2 == 0, "window - hop must be even")
        self._check(self.low_bins < self.window // 2, "low_bins must be less than window / 2")
        strides, kernels = self.hifigan_strides, self.hifigan_kernels
        self._check(
            len(strides) == len(kernels), "hifigan_kernels must be as many as hifigan_strides"
        )
        self._check(
            all(0 < stride <= kernel for stride, kernel in zip(strides, kernels, strict=True)),
            "hifigan_kernels must not be smaller than hifigan_strides",
        )
        product = f"hifigan_strides make {math.prod(strides)} samples per frame, hop is {self.hop}"
        self._check(math.prod(strides) == self.hop, product)
        halved = "hifigan_width must be divisible by 2 at each stride"
        self._check(self.hifigan_width % 2 ** len(strides) == 0, halved)

    @staticmethod
    def _check(good: bool, rule: str) -> None:
        if not good:
            raise ValueError(rule)

    @property
    def rows(self) -> int:
        """Indices per column."""
        return self.mel_rows + self.phase_rows

    @property
    def mel_rows(self) -> int:
        """Mel patches per column."""
        return self.mel_bands // self.patch_bands

    @property
    def entropy_groups(self) -> tuple[tuple[int, ...], ...]:
        """Groups of rows in the order of their coding; rows of a group are coded independently.

        Every fourth mel row first, then those between them, then every other phase row.
        """
        mel, phase = range(self.mel_rows), range(self.mel_rows, self.rows)
        groups = [*(mel[first::4] for first in (0, 2, 1, 3)), phase[::2], phase[1::2]]
        return tuple(tuple(group) for group in groups if group)

    @property
    def decoder_history(self) -> int:
        """Earlier columns on which the decoded frames of a column depend."""
        fine = (FRAME_KERNEL - 1) * self.decoder_fine_blocks
        return 1 + (COLUMN_KERNEL - 1) * self.decoder_blocks + math.ceil(fine / self.patch_frames)

    @property
    def concealment_history(self) -> int:
        """Columns on which a predicted column depends, up to and including itself."""
        blocks = (COLUMN_KERNEL - 1) * self.concealment_blocks
        return CONCEALMENT_TAPS - CONCEALMENT_LOOK_AHEAD + blocks

    @property
    def codebook_entries(self) -> int:
        return 1 << self.bits

    @property
    def synthesis_delay(self) -> int:
        """Samples that an inverse STFT waits for after the last one of its own frame.

        For the vocoder's look-ahead, and for the windows that reach into the frame.
        """
        return self.vocoder_look_ahead * self.hop + (self.vocoder_n_fft - self.hop) // 2

    @property
    def hifigan_look_ahead(self) -> int:
        """Frames of look-ahead: those until all samples of a frame's source are there."""
        return math.ceil(self.synthesis_delay / self.hop)

    @property
    def hifigan_context(self) -> int:
        """Frames around one that HiFi-GAN's first layer needs, and its level: the one before."""
        return max(FRAME_KERNEL - 1, self.hifigan_look_ahead + 1)

    @property
    def column_samples(self) -> int:
        return self.hop * self.patch_frames

    @property
    def bit_rate(self) -> float:
        """Bit rate of the indices alone, bit/s."""
        return self.rows * self.bits * self.sample_rate / self.column_samples

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
