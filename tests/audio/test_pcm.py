"""Arrays are samples with full scale at 1, (frames,) or (frames, channels), or are refused."""

import numpy as np
import pytest

import pcodec
from pcodec import AudioError, AudioWarning
from pcodec.audio.pcm import clean, from_bytes

TONE = 0.3 * np.sin(np.arange(1600) * 0.1)


@pytest.mark.parametrize("shape", [(1, 1600), (2, 1600), (5, 6), (1, 2)])
def test_channels_first_are_refused(shape):
    for encode in (pcodec.encode, pcodec.load().to_tokens):
        with pytest.raises(AudioError, match=r"more channels than frames.*\(frames, channels\)"):
            encode(np.zeros(shape), 16000)


@pytest.mark.parametrize("shape", [(0,), (1,), (1, 1), (2, 2), (0, 2), (1600, 1), (1600, 2)])
def test_frames_first_are_taken(shape):
    assert clean(np.zeros(shape)).shape == (shape[0],)


@pytest.mark.parametrize(
    "samples",
    [
        (TONE * 32768).astype(int),
        (TONE * 32768).astype(int).tolist(),
        [[1, 2], [3, 4]],
        (TONE * 127 + 128).astype(np.uint8),
        (TONE * 127).astype(np.int8),
        (TONE * 32768 + 32768).astype(np.uint16),
        TONE > 0,
        TONE.astype(complex),
        np.array(["speech.wav"]),
        np.array([None, 1.0]),
    ],
    ids=lambda x: f"{type(x).__name__} of {np.asarray(x).dtype}",
)
def test_integers_of_no_known_scale_are_refused(samples):
    with pytest.raises(AudioError, match="give floats with full scale at 1, or int16 or int32"):
        pcodec.encode(samples, 16000)


@pytest.mark.parametrize("kind", ["int16", ">i2", "int32", "float16", "float32", "float64"])
def test_integers_of_16_and_32_bits_and_floats_mean_the_same(kind):
    scale = {"int16": 2**15, ">i2": 2**15, "int32": 2**31}.get(kind, 1)
    assert np.abs(clean((TONE * scale).astype(kind)) - TONE).max() < 3e-4
    assert np.abs(clean(TONE.tolist()) - TONE).max() < 1e-6


def test_floats_in_the_scale_of_integers_are_clipped_with_a_warning_that_counts_them():
    x = TONE * 32768
    with pytest.warns(AudioWarning, match=f"^{(np.abs(x) > 4).sum()} samples are clipped.*32768"):
        pcodec.encode(x, 16000)
    with pytest.warns(AudioWarning, match="^2 samples are NaN"):
        assert clean([0.1, np.nan, -np.inf]).tolist() == [np.float32(0.1), 0, 0]


def test_channels_that_cancel_out_warn():
    with pytest.warns(AudioWarning, match=r"cancel each other out in 32000 frames.*wav\[:, 0\]"):
        clean(np.stack([np.tile(TONE, 20), -np.tile(TONE, 20)], 1))
    clean(np.stack([TONE, 0.5 * TONE], 1))


def test_bytes_of_24_bits_and_laws_are_read_of_the_channel_that_is_asked_for():
    data = bytes([0, 0, 0x40, 0, 0, 0x80, 0xFF, 0xFF, 0x7F, 0, 0, 0])
    assert from_bytes(data, "<i3", 2).tolist() == [[0.5, -1.0], [1 - 2**-23, 0.0]]
    assert from_bytes(data, "<i3", 2, 1).tolist() == [[-1.0], [0.0]]
    assert from_bytes(bytes([0x40, 0, 0]), ">i3").tolist() == [[0.5]]
    assert from_bytes(b"\xff\x00\xff", "ulaw", 2).tolist() == [[0.0, -32124 / 32768]]
    assert from_bytes(b"\x80\x00\xc0", "|u1").tolist() == [[0.0], [-1.0], [0.5]]
