"""The codec as a module of torch, beside the one that runs."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import SMALL, snr

import pcodec
import pcodec.torch
from pcodec.eval.metrics import log_mel_distance
from pcodec.networks.checkpoint import Networks


@pytest.fixture(scope="module")
def net():
    return pcodec.torch.load()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The folder of a small model with random weights."""
    torch.manual_seed(0)
    folder, networks = tmp_path_factory.mktemp("small"), Networks(SMALL)
    networks.quantizer.codebook.normal_()
    networks.save(folder, tuple(Networks.PARTS))
    return folder


def test_it_chooses_the_tokens_of_the_codec_but_for_a_few(net, codec, speech, tokens):
    found = net.encode(torch.from_numpy(speech)[None])
    assert found.dtype == torch.int64 and found.shape == (1, *tokens.shape)
    assert np.mean(found[0].numpy() == tokens) > 0.99
    assert codec.model.bitstream_id == net.model.bitstream_id


def test_its_samples_are_those_of_the_codec_but_for_the_products_of_bytes(
    net, codec, speech, tokens
):
    ours = codec.from_tokens(tokens, length=len(speech))
    with torch.inference_mode():
        theirs = net.decode(torch.from_numpy(tokens.astype(np.int64))[None], [len(speech)])
    theirs = theirs[0].numpy()
    assert theirs.shape == ours.shape and theirs.dtype == np.float32
    # Of what coding does to the mel, the bytes do a fifth.
    assert log_mel_distance(ours, theirs) < 0.35 * log_mel_distance(speech, ours)
    assert snr(ours, theirs) > 10


def test_a_batch_of_any_lengths_is_what_its_clips_are_alone(net, speech):
    wav = torch.from_numpy(speech)
    lengths = [30000, 512, 700, 0, 29000]
    batch = torch.full((5, 30000), 0.3)  # what stands after an end is not looked at
    for i, length in enumerate(lengths):
        batch[i, :length] = wav[1000 * i : 1000 * i + length]
    with torch.inference_mode():
        tokens = net.encode(batch, lengths)
        decoded = net.decode(tokens, lengths)
        through = net(batch, lengths)
        for i, length in enumerate(lengths):
            columns = -(-length // 512)
            found = tokens[i, :columns]
            alone = net.encode(batch[i : i + 1, :length])[0]
            # A rounding may tip one: the order of sums depends on the shape of a batch.
            assert (found != alone).sum() <= 0.002 * alone.numel()
            assert (tokens[i, columns:] == pcodec.torch.NO_TOKEN).all()
            samples = net.decode(found[None], [length])[0]
            if length:
                assert snr(samples.numpy(), decoded[i, :length].numpy()) > 60
                assert snr(samples.numpy(), through[i, :length].numpy()) > 60
            assert not decoded[i, length:].any()
    assert decoded.shape == through.shape == batch.shape


@pytest.mark.parametrize("vocoder", ["spectral", "hifigan"])
def test_gradients_pass_through_tokens_to_every_network_and_the_samples(small, vocoder):
    net = pcodec.torch.load(str(small), vocoder)
    wav = (0.1 * torch.randn(2, 4096)).requires_grad_()
    net(wav).square().mean().backward()
    for module in (net.encoder, net.decoder, net.vocoder):
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        assert gradients and all(torch.isfinite(g).all() for g in gradients)
        assert any(g.any() for g in gradients)
    assert wav.grad.any()
    assert not list(net.quantizer.parameters())
    # From tokens, to decoder and vocoder.
    net.zero_grad()
    net.decode(net.encode(wav)).square().mean().backward()
    assert net.decoder.embed.linear.weight.grad.any()
    assert net.encoder.embed.weight.grad is None


def test_what_is_saved_is_a_model(small, tmp_path, speech):
    net = pcodec.torch.load(str(small))
    wav = torch.from_numpy(speech[None, :8192])
    with torch.no_grad():
        net.vocoder.head.bias.add_(0.5)
        wanted = net(wav)
    net.save(tmp_path / "mine")
    again = pcodec.torch.load(str(tmp_path / "mine"))
    with torch.inference_mode():
        assert snr(wanted.numpy(), again(wav).numpy()) > 40
    # The same tokens, other samples; and lost columns are concealed as before.
    mine, old = pcodec.load(str(tmp_path / "mine")), pcodec.load(str(small))
    assert mine.model.bitstream_id == old.model.bitstream_id
    tokens = old.to_tokens(speech[:8192])
    assert np.array_equal(mine.to_tokens(speech[:8192]), tokens)
    assert not np.allclose(mine.from_tokens(tokens), old.from_tokens(tokens))
    assert mine.decoder.concealment is not None
    net.save(tmp_path / "mine")  # over itself


def test_products_can_be_of_fewer_bits(small, speech):
    net = pcodec.torch.load(str(small), dtype=torch.bfloat16)
    full = pcodec.torch.load(str(small))
    wav = torch.from_numpy(speech[None, :8192])
    with torch.inference_mode():
        few = net(wav)
        assert few.dtype == torch.float32 and torch.isfinite(few).all()
        assert np.mean((net.encode(wav) == full.encode(wav)).numpy()) > 0.8
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_what_cannot_be_is_refused(small):
    net = pcodec.torch.load(str(small))
    with pytest.raises(ValueError, match=r"\(8,\), not \(batch, n\)"):
        net.encode(torch.zeros(8))
    for lengths in ([9], [-1], [1, 2]):
        with pytest.raises(ValueError, match="lengths"):
            net(torch.zeros(1, 8), lengths)
    with pytest.raises(pcodec.PcodecError, match="no vocoder 'wavenet'"):
        pcodec.torch.load(str(small), "wavenet")


def test_torch_is_imported_when_it_is_asked_for():
    script = (
        "import sys, pcodec; assert 'torch' not in sys.modules;"
        "pcodec.torch.load; import torch; assert torch.nn.Module and pcodec.torch is not torch"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
