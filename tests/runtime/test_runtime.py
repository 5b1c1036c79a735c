"""What is run is what was trained: graphs and NumPy against the networks in torch."""

import ast
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL as CONFIG
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from pcodec import dsp
from pcodec.errors import PcodecError
from pcodec.graphs.blocks import (
    DIGIT_OFFSET,
    INT16_MAX,
    byte_block,
    byte_product,
    exact_block,
    exact_product,
)
from pcodec.graphs.graph import Graph, Tensors
from pcodec.networks.calibration import measured
from pcodec.networks.checkpoint import Networks
from pcodec.networks.excitation import seen as seen_by_networks
from pcodec.networks.folding import fold
from pcodec.networks.layers import ConvNeXtBlock
from pcodec.networks.mel import level_of, normalize
from pcodec.networks.spectral import Spectrum
from pcodec.networks.stft import InverseSTFT
from pcodec.runtime.biquad import high_pass, low_shelf
from pcodec.runtime.concealment import Concealment
from pcodec.runtime.decoder import Decoder
from pcodec.runtime.encoder import Encoder
from pcodec.runtime.entropy import EntropyModel
from pcodec.runtime.excitation import Excitation
from pcodec.runtime.hifigan import HifiGan
from pcodec.runtime.mel import Analysis
from pcodec.runtime.network import Network, Processor
from pcodec.runtime.spectral import Consistency, SpectralVocoder
from pcodec.runtime.stft import Synthesis

ONE = Processor()
PACKAGE = Path(dsp.__file__).parent


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Networks with random weights, as they are on disk, and their folder."""
    torch.manual_seed(0)
    folder, made = tmp_path_factory.mktemp("model"), Networks(CONFIG)
    with torch.no_grad():
        # Zeros and ones, which networks begin with, would hide what is left out.
        for tensor in made.parameters():
            if tensor.amax() == tensor.amin():
                tensor.add_(0.1 * torch.randn(tensor.shape))
        made.quantizer.codebook.normal_()
    made.save(folder, tuple(Networks.PARTS))
    read = Networks(CONFIG).eval().requires_grad_(False)
    read.load(folder, tuple(Networks.PARTS))
    return read, folder


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


MELS, LOWS = noise(2, 160, 80) - 4, noise(2, 160, 64, seed=1)
SEEN = np.concatenate([(MELS - dsp.LOG_MEL_MEAN) / np.float32(dsp.LOG_MEL_STD), LOWS], -1)
"""As vocoders see them."""


def close(result, wanted, share):
    """Whether a result is what was wanted within a share of it."""
    wanted = np.asarray(wanted)
    assert result.shape == wanted.shape
    assert np.linalg.norm(result - wanted) < share * np.linalg.norm(wanted)


def test_the_encoder_is_that_in_torch_within_a_thousandth(trained):
    made, folder = trained
    encoder, x = Encoder(CONFIG, folder, ONE), 0.1 * noise(2, 10240)
    made = made.double()
    # Silence before and after, which passes the filter, too.
    around = np.pad(x.astype(np.float64), ((0, 0), (0, encoder.analysis.overhang)))
    filtered = encoder.high_pass(around, {}, last=True)
    before = np.zeros((2, encoder.analysis.overhang))
    mel, low = made.mel.frames(torch.from_numpy(np.concatenate([before, filtered], 1)))
    low = normalize(low, level_of(low, CONFIG.patch_frames))
    wanted = made.encoder(mel, low)
    spectra = encoder.spectra(x, {}, last=True)
    np.testing.assert_allclose(encoder.low_band(spectra), low, atol=1e-9)
    (latents,) = encoder.network(magnitudes=np.abs(spectra), low=low.numpy())
    close(latents, wanted.reshape(latents.shape), 1e-3)
    indices = encoder.indices(spectra, {})
    assert indices.shape == (2, 20, 24)
    assert np.mean(indices == made.quantizer.nearest(wanted).numpy()) > 0.99
    made.float()


def test_the_decoder_is_that_in_torch_within_two_percent(trained):
    made, folder = trained
    decoder = Decoder(CONFIG, folder, ONE)
    indices = np.random.default_rng(0).integers(0, 1024, (2, 30, 24))
    latents = decoder.lookup(indices)
    assert np.array_equal(latents, made.quantizer.lookup(torch.from_numpy(indices)))
    wanted_mel, wanted_low = made.decoder(torch.from_numpy(latents))
    mel, low = decoder(latents, {}, last=True)
    close(mel - np.float32(dsp.LOG_MEL_MEAN), wanted_mel - dsp.LOG_MEL_MEAN, 0.02)
    close(low, wanted_low, 0.02)


def test_concealment_is_that_in_torch_within_two_percent(trained):
    made, folder = trained
    latents, lost = noise(2, 40, 24, 12), np.random.default_rng(0).random((2, 40)) < 0.3
    result = Concealment(CONFIG, folder, ONE)(latents, lost)
    close(result, made.concealment(torch.from_numpy(latents), torch.from_numpy(lost)), 0.02)
    assert np.array_equal(result[~lost], latents[~lost])


def test_the_spectrum_is_that_in_torch_within_four_percent(trained):
    made, folder = trained
    vocoder = SpectralVocoder(CONFIG, folder, ONE)
    mel, low = torch.from_numpy(MELS), torch.from_numpy(LOWS)
    np.testing.assert_allclose(SEEN, seen_by_networks(mel, low), atol=1e-6)
    seen = np.pad(SEEN, ((0, 0), (5, 1), (0, 0)))
    (logits,) = vocoder.tracker.network(seen=seen)
    close(logits, made.spectral.excitation.logits(torch.from_numpy(SEEN)), 0.04)
    pitch = made.spectral.excitation.pitch(torch.from_numpy(logits))
    (cosine, sine), level = made.spectral.excitation(pitch)
    amplitude, *phasor = vocoder.spectrum(
        seen=seen,
        now=SEEN,
        features=pitch.features().numpy(),
        cosine=cosine.numpy(),
        sine=sine.numpy(),
        level=level.numpy(),
    )
    wanted = made.spectral.spectrum(mel, low, pitch)
    close(np.log(amplitude), wanted.log_amplitude.clamp(max=6), 0.04)
    for result, part in zip(phasor, wanted[1:], strict=True):
        close(result, part, 0.04)


def test_pitch_and_excitation_are_those_in_torch(trained):
    made, _ = trained
    logits = noise(2, 200, 1 + dsp.PITCH_BINS + 4)
    logits[..., 0] = np.repeat(noise(2, 20), 10, 1)  # voiced for a while
    ours, state = Excitation(CONFIG), {}
    pitch = ours.pitch(logits, state)
    wanted = made.spectral.excitation.pitch(torch.from_numpy(logits))
    assert pitch.voiced.any() and not pitch.voiced.all()
    assert np.array_equal(pitch.voiced, wanted.voiced)
    np.testing.assert_allclose(pitch.frequency, wanted.frequency, rtol=1e-5)
    for name in ("phase", "constant"):
        turned = np.exp(1j * (getattr(pitch, name) - getattr(wanted, name).numpy()))
        np.testing.assert_allclose(turned, np.ones_like(turned), atol=1e-5)
    np.testing.assert_allclose(pitch.features(), wanted.features(), atol=1e-5)
    (cosine, sine), level = made.spectral.excitation(wanted)
    # A harmonic's phase is the pulses' times its number, up to 145.
    for result, part in zip(ours(pitch), (cosine, sine, level), strict=True):
        np.testing.assert_allclose(result, part, atol=1e-2)


def test_phases_and_samples_are_those_in_torch(trained):
    made, _ = trained
    angle = 9 * noise(2, 39, 257)
    polar = np.exp(noise(2, 39, 257, seed=1)), np.cos(angle), np.sin(angle)
    amplitude, cosine, sine = map(torch.from_numpy, polar)
    wanted = made.spectral.consistency(Spectrum(amplitude.log(), cosine, sine))
    result = Consistency(CONFIG)(*polar, {}, last=True)
    close(result, wanted.complex(), 1e-4)
    window = dsp.hann(512).astype(np.float32)
    samples = Synthesis(window, 128)(result, {}, last=True)
    close(samples, InverseSTFT(512, 128)(torch.from_numpy(result)), 1e-5)


def test_hifigan_is_that_in_torch(trained):
    made, folder = trained
    result = HifiGan(CONFIG, folder, ONE)(MELS, LOWS, {}, last=True)
    close(result, made.hifigan(torch.from_numpy(MELS), torch.from_numpy(LOWS)), 3e-4)


def test_the_mel_of_samples_is_that_in_torch(trained):
    made, _ = trained
    x = noise(2, 5120)
    analysis = Analysis(dsp.hann(512), 1024, 128)
    result = analysis.log_mel(x, made.mel.filters.numpy())
    np.testing.assert_allclose(result, made.mel(torch.from_numpy(x))[0], atol=1e-3)


def in_chunks(module, inputs, cuts):
    """What a module makes of its inputs, cut at the same places: its outputs, joined."""
    state, length = {}, inputs[0].shape[1]
    bounds = [0, *sorted(min(c, length) for c in cuts), length]
    parts = []
    for k, (start, end) in enumerate(itertools.pairwise(bounds)):
        out = module(*(x[:, start:end] for x in inputs), state, k == len(bounds) - 2)
        parts.append(out if isinstance(out, tuple) else (out,))
    return [np.concatenate(pieces, 1) for pieces in zip(*parts, strict=True)]


@pytest.fixture(scope="module")
def streaming(trained):
    """What streams, each with its input and the frames in a step of it."""
    _, folder = trained
    spectral = SpectralVocoder(CONFIG, folder, ONE)
    analysis = Analysis(dsp.hann(512), 1024, 128)
    return {
        "high pass": (high_pass(16000), [noise(2, 5120).astype(np.float64)], 37),
        "low shelf": (low_shelf(16000), [noise(2, 5120)], 37),
        "analysis": (analysis, [noise(2, 5120).astype(np.float64)], 128),
        "decoder": (Decoder(CONFIG, folder, ONE), [noise(2, 40, 24, 12)], 1),
        "spectral": (spectral, [MELS, LOWS], 4),
        "hifigan": (HifiGan(CONFIG, folder, ONE), [MELS[:, :40], LOWS[:, :40]], 4),
    }


@pytest.mark.parametrize(
    "name", ["high pass", "low shelf", "analysis", "decoder", "spectral", "hifigan"]
)
@given(cuts=st.lists(st.integers(0, 40), max_size=8))
@settings(deadline=None, max_examples=20)
def test_a_network_gives_in_any_chunks_what_it_gives_at_once(streaming, name, cuts):
    module, inputs, step = streaming[name]
    whole, parts = (in_chunks(module, inputs, c) for c in ([], [c * step for c in cuts]))
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5, rtol=1e-4)


def test_the_high_pass_removes_an_offset_and_rumble_and_leaves_speech():
    response = np.abs(np.fft.rfft(high_pass(16000).response(1, 16000)))
    np.testing.assert_allclose(response[:1000], butterworth(dsp.HIGH_PASS_HZ), atol=2e-3)
    assert response[0] < 1e-9 and response[25] < 0.26 and response[100] > 0.96


def test_the_low_shelf_leaves_of_the_high_pass_one_with_a_lower_edge():
    impulse = high_pass(16000).response(1, 16000)[None]
    response = np.fft.rfft(low_shelf(16000)(impulse, {}, last=True)[0])
    np.testing.assert_allclose(np.abs(response[:1000]), butterworth(dsp.RESTORED_HZ), atol=2e-3)
    assert np.degrees(np.abs(np.angle(response[100:]))).max() < 30


def butterworth(edge):
    """Response from 0 to 999 Hz."""
    return 1 / np.sqrt(1 + (edge / np.maximum(np.arange(1000), 1e-9)) ** 4)


def network_of(g, folder):
    """A graph as it runs: written, and read."""
    (folder / f"{g.name}.onnx").write_bytes(
        g.model({"codec": CONFIG.to_json()}).SerializeToString()
    )
    return Network(CONFIG, folder, g.name, ONE)


def stored(folder, tensors, exact=False, reach=None):
    """Tensors as a model has them on disk, for a graph."""
    tensors = fold({f"x.{name}": tensor for name, tensor in tensors.items()}, exact, reach or {})
    save_file(
        {name: x.contiguous().numpy() for name, x in tensors.items()}, folder / "x.safetensors"
    )
    return Tensors(folder / "x.safetensors") / "x"


def block_network(kind, module, folder):
    exact = kind is exact_block
    g = Graph("block", np.float64 if exact else np.float32)
    tensors = stored(folder, module.state_dict(), exact)
    g.output_frames("y", kind(g, g.frames("x", 64), tensors))
    return network_of(g, folder)


@pytest.fixture(params=[0.1, 1.0, 5.0])
def block(request):
    """A block whose normalised channels spread so far."""
    torch.manual_seed(0)
    made = ConvNeXtBlock(64, 192, 7, 0.5).requires_grad_(False)
    made.norm.weight.uniform_(-request.param, request.param)
    made.norm.bias.uniform_(-1, 1)
    return made


def test_blocks_of_bytes_compute_what_was_trained_within_six_percent(block, tmp_path):
    network, x = block_network(byte_block, block, tmp_path), noise(2, 30, 64)
    close(network(x=x)[0] - x, block(torch.from_numpy(x)).numpy() - x, 0.06)


def test_bytes_whose_reach_was_measured_compute_what_was_trained_within_two_percent(
    block, tmp_path
):
    x, reach = noise(2, 30, 64), {}
    networks = torch.nn.ModuleDict({"x": block})
    with measured(networks, reach):
        wanted = block(torch.from_numpy(x)).numpy()
    tensors = stored(tmp_path, block.state_dict(), reach=reach)
    g = Graph("block")
    g.output_frames("y", byte_block(g, g.frames("x", 64), tensors))
    network = network_of(g, tmp_path)
    close(network(x=x)[0] - x, wanted - x, 0.025)
    # What lies beyond is clipped, and harms no other frame.
    loud = x.copy()
    loud[:, 20:] *= 100
    close(network(x=loud)[0][:, :20] - x[:, :20], wanted[:, :20] - x[:, :20], 0.025)


def test_exact_blocks_compute_what_was_trained_within_a_thousandth(block, tmp_path):
    x = noise(2, 30, 64).astype(np.float64)
    network = block_network(exact_block, block, tmp_path)
    close(network(x=x)[0] - x, block.double()(torch.from_numpy(x)).numpy() - x, 1e-3)


@pytest.mark.parametrize("kind", [byte_block, exact_block])
def test_blocks_give_the_same_bits_frame_by_frame_and_at_once(block, kind, tmp_path):
    network, x, state = block_network(kind, block, tmp_path), noise(1, 40, 64), {}
    x = x.astype(np.float64 if kind is exact_block else np.float32)
    parts = [network(state, x=x[:, i : i + 4])[0] for i in range(0, 40, 4)]
    assert np.array_equal(np.concatenate(parts, 1), network(x=x)[0])


def test_exact_products_are_those_of_whole_numbers_bit_by_bit(tmp_path):
    """As of Python's integers; so they do not depend on the processor."""
    rng = np.random.default_rng(0)
    linear = torch.nn.Linear(64, 48)
    block = ConvNeXtBlock(64, 48, 3, 1.0).requires_grad_(False)
    block.expand = linear.requires_grad_(False)
    tensors = stored(tmp_path, block.state_dict(), exact=True)
    numbers = np.rint(9000 * rng.standard_normal((7, 64)))
    numbers[0, 0], numbers[1] = 1e6, INT16_MAX  # beyond the range; the largest sum
    g = Graph("product", np.float64)
    x = g.input("x", 1, 1, "N", 64)
    g.output("y", exact_product(g, x, tensors / "expand", g.value([2.0])))
    (result,) = network_of(g, tmp_path)(x=numbers[None, None] / 256 + DIGIT_OFFSET)
    weights = load_file(tmp_path / "x.safetensors")
    high, low = np.split(weights["x.expand.weight"].astype(np.int64), 2, 1)
    digits = numbers.clip(-INT16_MAX, INT16_MAX).astype(np.int64)
    steps = weights["x.expand.weight.step"] * (2 / INT16_MAX)
    wanted = (digits @ high) * (128 * steps) + (digits @ low) * steps + weights["x.expand.bias"]
    assert np.array_equal(result[0, 0], wanted)


def test_the_largest_bytes_and_weights_do_not_leave_their_sums(tmp_path):
    made = ConvNeXtBlock(320, 16, 3, 1.0).requires_grad_(False)
    made.expand.weight.fill_(0.5)
    made.expand.bias.zero_()
    tensors, g = stored(tmp_path, made.state_dict()), Graph("product")
    x = g.input("x", "N", 320)
    g.output("y", byte_product(g, x, tensors / "expand", 0))
    (sums,) = network_of(g, tmp_path)(x=np.full((4, 320), 300, np.float32))
    step = float(load_file(tmp_path / "x.safetensors")["x.normal.step"][0])
    np.testing.assert_allclose(sums, np.full((4, 16), 255 * 320 * 0.5 * step), rtol=1e-4)


def test_what_is_stored_is_read_again_as_what_was_trained(trained, tmp_path):
    """Weights that were rounded once do not change any more."""
    made, folder = trained
    made.save(tmp_path, tuple(Networks.PARTS))
    for path in folder.glob("*.safetensors"):
        once, twice = load_file(path), load_file(tmp_path / path.name)
        assert once.keys() == twice.keys()
        for name in once:
            np.testing.assert_allclose(once[name], twice[name], rtol=1e-3, atol=1e-3, err_msg=name)
    for path in folder.glob("*.onnx"):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_parts_of_another_model_are_one_error_that_names_the_file(trained, tmp_path):
    _, folder = trained
    other = dataclasses.replace(CONFIG, vocoder_look_ahead=2)
    with pytest.raises(PcodecError, match=r"pitch\.onnx: made for vocoder_look_ahead = 1"):
        SpectralVocoder(other, folder, ONE)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    wider = dataclasses.replace(CONFIG, vocoder_blocks=3)
    Networks(wider, ("spectral",)).save(tmp_path, ("spectral",))
    (tmp_path / "spectral.onnx").write_bytes((folder / "spectral.onnx").read_bytes())
    with pytest.raises(PcodecError, match=r"spectral\.(onnx|safetensors): not "):
        SpectralVocoder(CONFIG, tmp_path, ONE)
    (tmp_path / "decoder.safetensors").write_bytes(b"no weights")
    with pytest.raises(PcodecError, match=r"decoder\.(onnx|safetensors): not "):
        Decoder(CONFIG, tmp_path, ONE)
    (tmp_path / "concealment.onnx").write_bytes(b"no graph")
    with pytest.raises(PcodecError, match=r"concealment\.onnx: not a graph"):
        Concealment(CONFIG, tmp_path, ONE)


MAKERS = {
    "encoder": Encoder,
    "codebook": Decoder,
    "decoder": Decoder,
    "spectral": SpectralVocoder,
    "hifigan": HifiGan,
    "concealment": Concealment,
    "entropy": lambda config, folder, _: EntropyModel(config, folder),
}


@pytest.mark.parametrize("part", MAKERS)
@pytest.mark.parametrize("damage", ["shorter", "not finite"])
def test_a_damaged_tensor_is_one_error_that_names_its_file(trained, tmp_path, part, damage):
    _, folder = trained
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = load_file(folder / f"{part}.safetensors")
    for name, tensor in whole.items():
        if ".1." in name or not tensor.ndim:  # the second of a kind; a number
            continue
        if damage == "shorter":
            worse = tensor[..., :-1].copy()
        elif not np.issubdtype(tensor.dtype, np.floating):
            continue
        else:
            worse = tensor.copy()
            worse.flat[0] = np.nan
        save_file({**whole, name: worse}, tmp_path / f"{part}.safetensors")
        with pytest.raises(PcodecError, match=rf"({part}|pitch)\.(onnx|safetensors): not "):
            MAKERS[part](CONFIG, tmp_path, ONE)


# Numbers that say how much of what there is, or a shape; others are constants with a name.
PLAIN = {0, 1, 2, 3, 4, 6, 16, 0.5}


@pytest.mark.parametrize("name", sorted(p.name for p in (PACKAGE / "networks").glob("*.py")))
def test_no_number_is_written_in_both_homes_of_a_network(name):
    def numbers(layer):
        path = PACKAGE / layer / name
        nodes = ast.walk(ast.parse(path.read_text())) if path.exists() else ()
        values = {node.value for node in nodes if isinstance(node, ast.Constant)}
        return {value for value in values if type(value) in (int, float)} - PLAIN

    assert numbers("networks") & numbers("runtime") == set()
