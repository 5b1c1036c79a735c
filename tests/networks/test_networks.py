import numpy as np
import pytest
import torch
from conftest import SMALL as CONFIG

from pcodec.dsp import PITCH_BINS, mel_filters
from pcodec.networks.concealment import Concealment
from pcodec.networks.decoder import PatchDecoder
from pcodec.networks.encoder import PatchEncoder
from pcodec.networks.excitation import Excitation, Pitch
from pcodec.networks.hifigan import HifiGan
from pcodec.networks.mel import MelSpectrogram, level_of, normalize
from pcodec.networks.quantizer import Quantizer
from pcodec.networks.spectral import SpectralVocoder
from pcodec.networks.stft import InverseSTFT
from pcodec.train.pitch import track_pitch


def vocoders():
    torch.manual_seed(0)
    return {"spectral": SpectralVocoder(CONFIG), "hifigan": HifiGan(CONFIG)}


VOCODERS = vocoders()


@pytest.mark.parametrize(("name", "ahead"), [("spectral", 192 + 128), ("hifigan", 384)])
def test_a_vocoder_looks_no_further_ahead_than_it_says(name, ahead):
    vocoder, inputs = VOCODERS[name], [torch.randn(2, 40, 80) - 4, torch.randn(2, 40, 64)]
    for which in range(2):
        changed = [x.clone() for x in inputs]
        changed[which][:, 20:] += 1
        with torch.no_grad():
            difference = (vocoder(*inputs) - vocoder(*changed)).abs()
        assert difference[:, : 20 * 128 - ahead].max() == 0
        assert difference[:, 20 * 128 :].max() > 0


def test_an_untrained_hifigan_gives_its_source():
    vocoder, inputs = VOCODERS["hifigan"], (torch.randn(2, 40, 80) - 4, torch.randn(2, 40, 64))
    with torch.no_grad():
        assert torch.equal(vocoder(*inputs), vocoder.source(*inputs))


def test_the_source_is_the_low_band_at_the_level_of_the_mel(speech):
    front_end, source = MelSpectrogram(CONFIG), VOCODERS["hifigan"].source
    with torch.no_grad():
        mel, low = front_end(torch.from_numpy(speech[: len(speech) // 512 * 512])[None])
        # Networks see it divided by its level, which is the mel's business.
        samples = source(mel, low / 5)
        again = front_end(samples)[1]
    error = (again - low).square().sum() / low.square().sum()
    assert error < 10**-1.2


def test_no_low_band_has_a_gradient_of_numbers():
    inputs = torch.randn(1, 8, 80) - 4, torch.zeros(1, 8, 64)
    for x in inputs:
        x.requires_grad_()
    VOCODERS["hifigan"](*inputs).square().sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in inputs)


def test_the_encoder_is_causal_and_the_decoder_looks_one_column_ahead():
    encoder, decoder = PatchEncoder(CONFIG), PatchDecoder(CONFIG)
    mel, low, latents = torch.randn(1, 80, 80), torch.randn(1, 80, 64), torch.randn(1, 20, 24, 12)
    later_mel, later_low, later = mel.clone(), low.clone(), latents.clone()
    later_mel[:, 40:] += 1
    later_low[:, 40:] += 1
    later[:, 10:] += 1
    with torch.no_grad():
        now = encoder(mel, low)
        for changed in (encoder(later_mel, low), encoder(mel, later_low)):
            assert torch.equal(now[:, :10], changed[:, :10]) and not torch.equal(now, changed)
        for now, changed in zip(decoder(latents), decoder(later), strict=True):
            difference = (now - changed).abs().amax((0, 2))
            assert difference[:36].max() == 0 and difference[36:40].max() > 0


def test_the_low_band_is_the_spectrum_of_the_frame_with_phases_from_its_middle():
    front_end = MelSpectrogram(CONFIG)
    n, hertz, phase = torch.arange(4096), 250.0, 0.7
    _, low = front_end(torch.cos(2 * torch.pi * hertz / 16000 * n + phase)[None])
    real, imaginary = low.chunk(2, -1)
    bin_, frame = round(hertz / 31.25) - 1, 10
    middle = 128 * frame + 64
    angle = torch.atan2(imaginary, real)[0, frame, bin_]
    wanted = torch.tensor(2 * torch.pi * hertz / 16000 * middle + phase)
    assert torch.cos(angle - wanted) > 0.999
    assert torch.hypot(real, imaginary)[0, frame].argmax() == bin_


def test_a_column_of_the_low_band_is_relative_to_its_level_and_silence_stays_silent():
    low = torch.randn(1, 8, 64)
    loud, quiet = (normalize(x, level_of(x, 4)) for x in (100 * low, low))
    torch.testing.assert_close(loud, quiet, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(2 * loud.square().mean(), torch.tensor(1.0), atol=1e-2, rtol=0)
    assert normalize(1e-4 * low, level_of(1e-4 * low, 4)).abs().max() < 0.05


def test_mel_filters_have_unit_area_and_cover_all_frequencies():
    filters = mel_filters(96, 1024, 16000)
    assert filters.shape == (96, 513) and (filters >= 0).all()
    area = filters.sum(1) * 16000 / 1024
    assert np.abs(area - 1).max() < 0.35  # narrow filters are sampled coarsely
    assert np.abs(area[40:] - 1).max() < 0.03
    assert (filters.sum(0)[1:-1] > 0).all()


def test_the_inverse_stft_undoes_the_stft():
    x = torch.randn(1, 4096)
    inverse = InverseSTFT(512, 128)
    padded = torch.nn.functional.pad(x, (inverse.overhang, inverse.overhang))
    spectrum = torch.fft.rfft(padded.unfold(-1, 512, 128) * inverse.window)
    torch.testing.assert_close(inverse(spectrum), x, atol=1e-4, rtol=1e-4)


def test_the_quantizer_finds_the_nearest_entry_and_passes_the_gradient():
    quantizer = Quantizer(16, 3)
    quantizer.codebook.normal_()
    latents = torch.randn(5, 7, 3, requires_grad=True)
    codes = quantizer(latents)
    distances = torch.cdist(latents.detach(), quantizer.codebook)
    assert torch.equal(codes.indices, distances.argmin(-1))
    torch.testing.assert_close(codes.latents, quantizer.lookup(codes.indices))
    codes.latents.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))


def test_the_codebook_starts_at_clusters_follows_them_and_revives_dead_entries():
    torch.manual_seed(0)
    quantizer = Quantizer(8, 2, decay=0.8)
    centres = torch.tensor(np.stack(np.meshgrid([-3.0, 3.0], [-6, -2, 2, 6]), -1)).view(8, 2)
    latents = (centres.float().repeat(50, 1) + 0.1 * torch.randn(400, 2)).detach()
    quantizer.update(latents, quantizer.nearest(latents))
    quantizer.codebook[3] = quantizer.sums[3] = 1e3  # dead: far from everything
    for _ in range(60):
        quantizer.update(latents, quantizer.nearest(latents))
    nearest = torch.cdist(centres.float(), quantizer.codebook).amin(1)
    assert nearest.median() < 0.2
    assert quantizer.codebook.abs().max() < 10
    assert torch.bincount(quantizer.nearest(latents), minlength=8).min() > 0


def pulse_train(hz, cycles_before, n, rate=16000):
    phase = 2 * np.pi * (hz / rate * np.arange(n) + cycles_before)
    count = int(8000 / hz)
    return torch.from_numpy(sum(np.cos(h * phase) for h in range(1, count)) / count).float()


@pytest.mark.parametrize("hz", [90.0, 101.3, 240.0, 433.0])
def test_the_excitation_is_the_spectrum_of_a_pulse_train(hz):
    excitation = Excitation(CONFIG)
    frames = 20
    train = pulse_train(hz, 0.3, 512 + 128 * (frames - 1))
    spectrum = torch.fft.rfft(train.unfold(0, 512, 128) * torch.hann_window(512))
    middle = hz / 16000 * (256 + 128 * torch.arange(frames)) + 0.3
    track = Pitch(
        torch.full((1, frames), hz),
        2 * torch.pi * (middle % 1)[None],
        torch.zeros(1, frames),
        torch.ones(1, frames, dtype=torch.bool),
        torch.arange(frames)[None],
    )
    (cosine, sine), _ = excitation(track)
    loud = spectrum.abs() > 0.3 * spectrum.abs().max()
    loud[:, :3] = False  # where the harmonics' images below 0 Hz reach
    difference = spectrum * torch.complex(cosine, -sine)[0]
    assert loud[:, 3:].any(1).all()
    assert difference[loud].angle().abs().max() < 0.1


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("hz", [80.0, 131.0, 300.0])
def test_the_pitch_tracker_finds_pitch_and_pulses_whatever_the_polarity(hz, sign):
    excitation = Excitation(CONFIG)
    frames = 40
    train = sign * pulse_train(hz, 0.4, 512 + 128 * (frames - 1))[None]
    spectrum = torch.fft.rfft(train.unfold(-1, 512, 128) * torch.hann_window(512))
    track = track_pitch(train, spectrum, excitation)
    inner = slice(4, -4)
    assert track.voiced[:, inner].all()
    assert (track.frequency[:, inner] / hz).log2().abs().max() < 0.02
    cycles = hz / 16000 * (256 + 128 * torch.arange(frames)) + 0.4
    error = torch.exp(1j * (track.phase[0] - 2 * torch.pi * cycles)).angle()
    assert error[inner].abs().max() < 0.1
    assert torch.cos(track.constant[0, 0]) * sign > 0.9


def test_unvoiced_frames_are_excited_by_noise_and_pulses_stand_where_the_phasors_say():
    excitation = Excitation(CONFIG)
    logits = torch.zeros(1, 12, 1 + PITCH_BINS + 4)
    logits[0, :, 0] = torch.tensor([-1.0] * 4 + [1.0] * 8)
    logits[0, :, 50] = 30.0
    angle = torch.linspace(-3, 3, 12)
    logits[0, :, 1 + PITCH_BINS :] = torch.stack(
        [angle.cos(), angle.sin(), angle.cos(), -angle.sin()], 1
    )
    track = excitation.pitch(logits)
    assert track.voiced.sum() == 8
    torch.testing.assert_close(track.phase[0], angle)
    torch.testing.assert_close(track.constant[0], -angle)
    (cosine, sine), level = excitation(track)
    assert level[0, :4].abs().max() == 0 < level[0, 4:].abs().max()
    assert max(x[0, :4].mean().abs() for x in (cosine, sine)) < 0.1


def test_concealment_starts_as_the_last_column_held_or_half_way_to_the_next():
    model = Concealment(CONFIG)
    latents = torch.randn(2, 6, 24, 12)
    lost = torch.tensor([[True, False, True, True, False, False], [False] * 5 + [True]])
    result = model(latents, lost)
    assert torch.equal(result[0, 2], latents[0, 1])
    between = 0.5 * (latents[0, 1] + latents[0, 4])
    torch.testing.assert_close(result[0, 3], between)
    torch.testing.assert_close(result[0, 0], 0.5 * latents[0, 1])
    assert torch.equal(result[1, 5], latents[1, 4])
    assert torch.equal(result[~lost], latents[~lost])
