"""Which models there can be, and what follows from their sizes."""

import dataclasses
import io

import numpy as np
import pytest
from conftest import SMALL, snr

import pcodec
from pcodec import models
from pcodec.config import CodecConfig
from pcodec.pcx.transcode import PcxReader, encode_stream


@pytest.mark.parametrize(
    ("sizes", "word"),
    [
        ({"hop": 64}, "hifigan_strides make 128 samples per frame, hop is 64"),
        ({"hop": 0}, "hop = 0"),
        ({"bits": 20}, "bits must be at most 16"),
        ({"n_fft": 256}, "n_fft must be a multiple of window"),
        ({"encoder_width": -1}, "encoder_width = -1"),
        ({"sample_rate": 16000.0}, "sample_rate = 16000.0"),
        ({"mel_bands": 81}, "mel_bands must be a multiple of patch_bands"),
        ({"bits": 9, "phase_rows": 3}, "must fill whole bytes"),
        ({"window": 128, "n_fft": 128, "vocoder_n_fft": 128}, "more than one"),
        ({"vocoder_n_fft": 1024}, "vocoder_n_fft must be window"),
        ({"low_bins": 256}, "low_bins must be less"),
        ({"hifigan_kernels": (16, 16, 4)}, "must be as many as hifigan_strides"),
        ({"hifigan_kernels": (16, 16, 4, 1)}, "must not be smaller"),
        ({"hifigan_width": 24}, "divisible by 2 at each stride"),
    ],
)
def test_sizes_of_which_no_model_can_be_built_are_refused_by_name(sizes, word):
    with pytest.raises(ValueError, match=word.replace("(", r"\(")):
        CodecConfig(**sizes)


def test_a_configuration_survives_json():
    config = dataclasses.replace(SMALL, bits=8, hifigan_width=64)
    assert CodecConfig(**config.to_json()) == config


def model_of(folder, config, seed=0):
    """A model of a configuration with random weights."""
    torch = pytest.importorskip("torch")
    from pcodec.networks.checkpoint import Networks

    torch.manual_seed(seed)
    networks = Networks(config)
    networks.quantizer.codebook.normal_()
    for name, parameter in networks.named_parameters():
        if name.endswith("scale"):  # so that deep blocks matter as much as they can
            torch.nn.init.ones_(parameter)
    networks.save(folder, tuple(Networks.PARTS))
    return folder


@pytest.mark.parametrize("vocoder", ["spectral", "hifigan"])
def test_the_latency_is_the_longest_that_a_sample_waits(small_model, vocoder):
    codec = pcodec.load(str(small_model), vocoder)
    column = codec.config.column_samples
    wanted = {"spectral": 96, "hifigan": 100}[vocoder]  # ms
    assert codec.latency == wanted * 16
    # At the end of a column all is out but what waits for the future.
    with codec.stream_encoder() as encoder, codec.stream_decoder() as decoder:
        encoder.push(np.zeros(0, np.float32))
        taken = given = waits = 0
        for _ in range(12 * column // 16):
            taken += 16
            given += len(decoder.push(encoder.push(np.zeros(16, np.float32))))
            waits = max(waits, taken - given)
    assert codec.latency - column < waits <= codec.latency + 16


@pytest.mark.parametrize("vocoder", ["spectral", "hifigan"])
@pytest.mark.parametrize(
    "sizes",
    [
        # Deeper than 64 columns of the past, where the shipped model sees less.
        {"decoder_blocks": 12, "vocoder_blocks": 20},
        # Further than the taps of a layer.
        {"vocoder_look_ahead": 5},
    ],
)
def test_another_model_is_decoded_from_the_middle_as_from_the_start(
    tmp_path, speech, vocoder, sizes
):
    other = dataclasses.replace(SMALL, **sizes)
    codec = pcodec.load(str(model_of(tmp_path / "other", other)), vocoder)
    out = io.BytesIO()
    encode_stream(codec, [speech], 16000, out)
    whole, part = (
        np.concatenate(list(PcxReader(io.BytesIO(out.getvalue()), codec=codec, start=s).blocks()))
        for s in (0.0, 4.2)
    )
    assert snr(whole[round(4.2 * 16000) :], part) > 60


def test_what_is_foreseen_depends_on_as_many_columns_as_the_configuration_says(tmp_path):
    config = dataclasses.replace(SMALL, concealment_blocks=6)
    codec = pcodec.load(str(model_of(tmp_path / "deep", config)))
    history = config.concealment_history
    assert history > CodecConfig().concealment_history
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((1, history + 9, config.rows, config.latent_dim))
    latents = latents.astype(np.float32)
    lost = np.zeros(latents.shape[:2], bool)
    lost[:, -1] = True
    foreseen = codec.decoder.concealment(latents, lost)[:, -1]
    kept = codec.decoder.concealment(latents[:, -history:], lost[:, -history:])[:, -1]
    np.testing.assert_allclose(kept, foreseen, atol=1e-5)


def test_a_codebook_of_an_odd_number_of_bits_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from pcodec.report.drawings import draw_codebook, draw_stream

    config = dataclasses.replace(SMALL, bits=9)
    model = models.read_model(model_of(tmp_path / "odd", config))
    out = io.BytesIO()
    draw_codebook(model, out)
    assert out.getvalue().startswith(b"\x89PNG")
    tokens = np.random.default_rng(0).integers(0, 512, (20, 24))
    out = io.BytesIO()
    draw_stream(model.header(16000), model, tokens, out)
    assert out.getvalue().startswith(b"\x89PNG")


def test_a_vocoder_that_there_is_not_is_an_error_of_loading():
    with pytest.raises(pcodec.PcodecError, match="no vocoder is called 'typo': spectral, hifigan"):
        pcodec.load(vocoder="typo")
