"""The stages of training: what is trained, on which losses, how it is measured.

In order: `VqVae`; `Adversarial`, its late fine-tuning; `Vocoder`, on what they
reconstruct; `Joint`, decoder and vocoder together; `EndToEnd`, when those are ripe, all
together; then, with encoder and codebook frozen, so that the bitstream does not change any
more, `Refine`, as `Joint` but against an adversary, `HifiGanVocoder`, the paper's vocoder,
and `ConcealmentModel`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pcodec.audio.resample import Resampler
from pcodec.dsp import MEAN, SPREAD, mel_filters
from pcodec.errors import PcodecError
from pcodec.eval import metrics
from pcodec.networks.checkpoint import Networks, save_half
from pcodec.networks.excitation import Pitch
from pcodec.networks.spectral import Spectrum
from pcodec.networks.stft import InverseSTFT
from pcodec.train.discriminators import (
    Judgement,
    MelDiscriminator,
    SpectrogramDiscriminator,
    WaveformDiscriminator,
    discriminator_loss,
    feature_loss,
    generator_loss,
)
from pcodec.train.losses import (
    DisturbanceLoss,
    MelDisturbanceLoss,
    MultiResolutionMelLoss,
    limit_gradient,
    loudness_weights,
    mel_loss,
    phase_loss,
)
from pcodec.train.pitch import pitch_loss, track_pitch

Logs = dict[str, float]
Losses = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Settings:
    """One stage's table of train.toml."""

    steps: int
    batch: int = 16
    """crops a step"""
    columns: int = 32
    """columns a crop"""
    learning_rate: float = 1e-3
    warm_up: int = 200
    """steps"""
    seed: int = 0
    ema: float = 0.999
    share: float = 1.0
    """of the trained weights in what is shipped; the rest is what the stage began with"""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """weights of the losses, by name"""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "columns"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)!r}: a whole number from 1 on")
        for name in ("learning_rate", "warm_up", "ema", "share"):
            if not isinstance(getattr(self, name), (int, float)) or getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)!r}: a number from 0 on")


def refuse_disturbance(rate: int) -> None:
    """PcodecError where PESQ is not defined."""
    if rate != DisturbanceLoss.RATE:
        raise PcodecError(f"option disturbance: PESQ hears 16 kHz only, this model has {rate}")


def mixed_precision(device: torch.device) -> Callable[[], torch.autocast]:
    """Autocast to bfloat16, where the device multiplies it; elsewhere all stays float32."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    enabled = device.type != "cpu" or bool(capabilities.get("avx512_bf16"))
    return partial(torch.autocast, device.type, torch.bfloat16, enabled)


class Game:
    """A discriminator with its optimiser; rate: its learning rate, relative to the stage's."""

    def __init__(
        self,
        discriminator: nn.Module,
        learning_rate: float,
        device: torch.device,
        rate: float = 1.0,
    ) -> None:
        self.discriminator, self.autocast = discriminator.to(device), mixed_precision(device)
        group = {"params": discriminator.parameters(), "rate": rate}
        self.optimizer = torch.optim.AdamW([group], learning_rate, (0.8, 0.99), fused=True)

    def _judge(self, x: Tensor) -> list[Judgement]:
        with self.autocast():
            judgements: list[Judgement] = self.discriminator(x)
        return judgements

    def update(self, real: Tensor, fake: Tensor) -> Logs:
        """One update of the discriminator."""
        self.discriminator.requires_grad_(True)
        loss = discriminator_loss(self._judge(real), self._judge(fake.detach()))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), 10.0)
        self.optimizer.step()
        return {"discriminator": float(loss.detach())}

    def judge(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Adversarial and feature-matching loss of the generator."""
        self.discriminator.requires_grad_(False)
        with torch.no_grad():
            wanted = self._judge(real)
        judgements = self._judge(fake)
        return generator_loss(judgements), feature_loss(wanted, judgements)

    def save(self, path: Path) -> None:
        """Writes the discriminator, for a later training to go on from."""
        save_half(self.discriminator.state_dict(), path)

    def load(self, path: Path) -> None:
        """Reads what `save` wrote; PcodecError if it does not fit."""
        try:
            self.discriminator.load_state_dict(load_file(path))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise PcodecError(f"{path}: not the discriminator's weights ({error})") from error

    def state_dict(self) -> dict[str, Any]:
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])


class Stage:
    """What the loop needs of a stage."""

    name: str
    parts: ClassVar[tuple[str, ...]]
    """what it trains and exports"""
    needs: ClassVar[tuple[str, ...]] = ()
    """what must be there before"""
    max_norm: ClassVar[float] = 1.0
    """each module's gradients are clipped to this norm"""
    rates: ClassVar[dict[str, float]] = {}
    """learning rates of modules, relative to the stage's"""
    options: ClassVar[tuple[str, ...]] = ()
    """that a recipe may set"""

    def __init__(self, networks: Networks, settings: Settings) -> None:
        if unknown := sorted(set(settings.options) - set(self.options)):
            raise ValueError(f"no option {', '.join(unknown)}")
        self.networks, self.settings = networks, settings
        self.device = networks.mel.window.device
        self.autocast = mixed_precision(self.device)
        self.game: Game | None = None
        modules = [m for part in self.parts for m in networks.PARTS[part]]
        self.trained = nn.ModuleDict({name: getattr(networks, name) for name in modules})
        networks.requires_grad_(False)
        self.trained.requires_grad_(True)
        self.parameters = {
            name: parameters
            for name, module in self.trained.items()
            if (parameters := list(module.parameters()))
        }
        groups = [
            {"params": parameters, "rate": self.rates.get(name, 1.0)}
            for name, parameters in self.parameters.items()
        ]
        self.optimizer = torch.optim.AdamW(
            groups, settings.learning_rate, (0.8, 0.99), weight_decay=0.01, fused=True
        )
        self.compiled = torch.compile(self.losses, dynamic=False)

    def crop(self, samples: Tensor) -> Tensor:
        """Cuts the front end's overhang off: the samples that the mel frames are of."""
        overhang = self.networks.mel.overhang
        return samples[:, overhang : samples.shape[1] - overhang]

    def encode(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Samples with overhang -> log-mel (B, frames, bands), latents not yet quantised."""
        with torch.no_grad():
            mel = self.networks.mel.frames(samples)
        with self.autocast():
            return mel, self.networks.encoder(mel).float()

    @torch.no_grad()
    def codes(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Samples with overhang -> log-mel (B, frames, bands), quantised latents; no gradient."""
        mel, latents = self.encode(samples)
        quantizer = self.networks.quantizer
        return mel, quantizer.lookup(quantizer.nearest(latents))

    def decode(self, latents: Tensor) -> Tensor:
        """Quantised latents -> log-mel (B, frames, bands)."""
        with self.autocast():
            return self.networks.decoder(latents).float()

    def losses(self, samples: Tensor) -> Losses:
        """Losses by name; "total" is what is minimised. Detached extras start with "_"."""
        raise NotImplementedError

    def step(self, samples: Tensor) -> Logs:
        """One update; samples (B, n + 2 * overhang)."""
        losses = self.compiled(samples.to(self.device))
        extra = self.complete(losses)
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        norms = {
            f"norm_{name}": float(nn.utils.clip_grad_norm_(parameters, self.max_norm))
            for name, parameters in self.parameters.items()
        }
        self.optimizer.step()
        logs = {k: float(v.detach()) for k, v in losses.items() if not k.startswith("_")}
        self.after(losses)
        return {**logs, **extra, **norms}

    def complete(self, losses: Losses) -> Logs:
        """Adds to the total what is not compiled: the adversarial terms."""
        return {}

    def after(self, losses: Losses) -> None:
        """What follows an update."""

    def set_learning_rate(self, rate: float) -> None:
        games = [] if self.game is None else [self.game.optimizer]
        for optimizer in (self.optimizer, *games):
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("rate", 1.0)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        game = {} if self.game is None else {"game": self.game.state_dict()}
        state = {"trained": self.trained.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {**state, **game}

    def load_state(self, state: dict[str, Any]) -> None:
        self.trained.load_state_dict(state["trained"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.game is not None and "game" in state:  # else it comes in now
            self.game.load_state_dict(state["game"])

    def evaluate(self, clips: list[Tensor]) -> Logs:
        """Scores on clips of samples (n,), n a multiple of a column."""
        raise NotImplementedError


class VqVae(Stage):
    """Patch VQ-VAE on log-mels: weighted L1 and commitment."""

    name = "vqvae"
    parts: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder")

    def losses(self, samples: Tensor) -> Losses:
        mel, latents = self.encode(samples)
        codes = self.networks.quantizer(latents)
        decoded = self.decode(codes.latents)
        reconstruction = mel_loss(decoded, mel)
        return {
            "total": reconstruction + 0.25 * codes.commitment,
            "mel": reconstruction,
            "commitment": codes.commitment,
            "_latents": latents.detach(),
            "_indices": codes.indices,
            "_decoded": decoded,
        }

    def after(self, losses: Losses) -> None:
        self.networks.quantizer.update(losses["_latents"], losses["_indices"])

    def evaluate(self, clips: list[Tensor]) -> Logs:
        n = self.networks
        plain, counts = 0.0, torch.zeros(n.config.codebook_entries)
        pesq: list[float] = []
        for clip in clips:
            mel = n.mel(clip[None].to(self.device))
            codes = n.quantizer(n.encoder(mel))
            decoded = n.decoder(codes.latents)
            counts += torch.bincount(codes.indices.flatten().cpu(), minlength=len(counts))
            plain += float((decoded - mel).abs().mean())
            ideal = ideal_vocoder(n, clip, (decoded - mel).cpu())
            rate = n.config.sample_rate
            pesq.append(metrics.or_nan("pesq", as_measured(clip, rate), as_measured(ideal, rate)))
        return {
            "log_mel_error": plain / len(clips),
            "pesq_ideal_vocoder": float(np.nanmean(pesq)),
            "entropy_bits": metrics.entropy_bits(counts.long().numpy()),
        }


def as_measured(samples: Tensor, rate: int) -> metrics.Samples:
    """Samples (n,) at the rate that the metrics are defined at."""
    return Resampler(rate, metrics.RATE)(samples.cpu().numpy(), last=True)


def ideal_vocoder(n: Networks, clip: Tensor, error: Tensor) -> Tensor:
    """The clip (n,) with the log-mel's errors (1, frames, bands), and nothing else, imposed on it.

    What the quantiser would sound like through a vocoder that makes no error.
    """
    inverse = InverseSTFT(512, n.config.hop)
    filters = torch.from_numpy(mel_filters(n.config.mel_bands, 512, n.config.sample_rate))
    spread = error @ (filters / (filters.sum(0) + 1e-6))
    padded = F.pad(clip, (inverse.overhang, inverse.overhang))
    spectrum = torch.fft.rfft(padded.unfold(-1, 512, n.config.hop) * inverse.window)
    return inverse(spectrum[None] * spread.exp())[0].clamp(-1, 1)


class Adversarial(VqVae):
    """Late adversarial fine-tuning of the VQ-VAE against a PatchGAN on the mel.

    arXiv 2509.02244, section 3; adaptive weight as in VQGAN (Esser et al. 2021, eq. 7).
    """

    name = "adversarial"
    options: ClassVar[tuple[str, ...]] = ("adversarial",)
    needs: ClassVar[tuple[str, ...]] = VqVae.parts

    def __init__(self, networks: Networks, settings: Settings) -> None:
        super().__init__(networks, settings)
        # The discriminator learns faster than the generator (Heusel et al. 2017).
        opponent = Game(MelDiscriminator(), settings.learning_rate, self.device, rate=4.0)
        self.opponent = self.game = opponent

    def losses(self, samples: Tensor) -> Losses:
        losses = super().losses(samples)
        with torch.no_grad():
            losses["_mel"] = self.networks.mel.frames(samples)
        return losses

    def complete(self, losses: Losses) -> Logs:
        real, fake = losses["_mel"], losses["_decoded"]
        logs = self.opponent.update(real, fake)
        deceit, _ = self.opponent.judge(real, fake)
        last = self.networks.decoder.refine.weight
        (a,) = torch.autograd.grad(losses["mel"], last, retain_graph=True)
        (b,) = torch.autograd.grad(deceit, last, retain_graph=True)
        weight = (a.norm() / (b.norm() + 1e-6)).clamp(max=1e4)
        weight = weight * self.settings.options.get("adversarial", 0.5)
        losses["total"] = losses["total"] + weight * deceit
        return {**logs, "deceit": float(deceit.detach()), "weight": float(weight)}


class Waveform(Stage):
    """What the stages with a vocoder share.

    Options "adversarial": weight of the adversarial terms; without it, regression only;
    "judged": how many items of a batch the discriminators see; "free": the part of a batch
    that is excited as when decoding (the rest by the true pitch track).
    """

    max_norm: ClassVar[float] = 10.0
    options: ClassVar[tuple[str, ...]] = ("adversarial", "judged", "free", "disturbance")
    vocoder: ClassVar[str] = "spectral"

    def __init__(self, networks: Networks, settings: Settings) -> None:
        super().__init__(networks, settings)
        rate = networks.config.sample_rate
        self.waveform_loss = MultiResolutionMelLoss(rate).to(self.device)
        self.free_waveform_loss = MultiResolutionMelLoss(rate, shortest=512).to(self.device)
        self.disturbance = DisturbanceLoss().to(self.device)
        # Compiled with the rest, its overlapping columns take ten times as long as all else.
        self.consistency = torch.compiler.disable(networks.spectral.consistency)
        if settings.options.get("disturbance"):
            refuse_disturbance(rate)
        if settings.options.get("adversarial"):
            self.game = Game(self.make_discriminator(), settings.learning_rate, self.device)

    def make_discriminator(self) -> nn.Module:
        return SpectrogramDiscriminator()

    def mels(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """True and decoded log-mel (B, frames, bands)."""
        mel, latents = self.codes(samples)
        return mel, self.decode(latents)

    def spectral_losses(self, mel: Tensor, samples: Tensor) -> Losses:
        """Regression losses of the spectral vocoder on a log-mel of the samples."""
        n = self.networks
        mel = limit_gradient(mel)
        target = self.crop(samples)
        with torch.no_grad():
            stft = n.spectral.inverse_stft
            overhang = n.mel.overhang - stft.overhang
            framed = samples[:, overhang : samples.shape[1] - overhang]
            wanted = torch.fft.rfft(framed.unfold(-1, stft.n_fft, stft.hop) * stft.window)
            pitch = track_pitch(framed, wanted, n.spectral.excitation)
        with self.autocast():
            logits = n.spectral.excitation.logits((mel - MEAN) / SPREAD)
            tracking = pitch_loss(logits, pitch)
            # The last items run free, as when decoding: with the predicted pitch, and pulses
            # anywhere. So of them neither phases nor short windows can be compared.
            led = len(mel) - round(self.settings.options.get("free", 0.5) * len(mel))
            own = n.spectral.excitation.pitch(logits.detach())
            start = 2 * math.pi * torch.rand(len(mel), 1, device=mel.device)
            own = own._replace(phase=own.phase + start, frame=pitch.frame)
            pitch = Pitch(*(torch.cat([a[:led], b[led:]]) for a, b in zip(pitch, own, strict=True)))
            spectrum = n.spectral.spectrum(mel, pitch=pitch)
        output = n.spectral.synthesize(self.consistency(spectrum))
        losses = {"pitch": tracking}
        total, share = 0.2 * tracking, led / len(mel)
        if led:
            losses["waveform"] = self.waveform_loss(output[:led], target[:led])
            losses["phase"] = phase_loss(Spectrum(*(x[:led] for x in spectrum)), wanted[:led])
            total = total + 15 * share * losses["waveform"] + losses["phase"]
        if led < len(mel):
            losses["free_waveform"] = self.free_waveform_loss(output[led:], target[led:])
            total = total + 15 * (1 - share) * losses["free_waveform"]
        return self.heard({**losses, "total": total, "_output": output, "_target": target})

    def heard(self, losses: Losses) -> Losses:
        """The losses with that of loudness, if it has a weight."""
        if weight := self.settings.options.get("disturbance", 0.0):
            losses["disturbance"] = self.disturbance(losses["_output"], losses["_target"])
            losses["total"] = losses["total"] + weight * losses["disturbance"]
        return losses

    def complete(self, losses: Losses) -> Logs:
        if self.game is None:
            return {}
        real, fake = losses["_target"], losses["_output"]
        # The last items: those that run free.
        judged = self.settings.options.get("judged", len(real))
        real, fake = real[-judged:], fake[-judged:]
        logs = self.game.update(real, fake)
        deceit, features = self.game.judge(real, fake)
        weight = self.settings.options["adversarial"]
        losses["total"] = losses["total"] + weight * (deceit + 4 * features)
        return {**logs, "deceit": float(deceit.detach()), "features": float(features.detach())}

    def evaluate(self, clips: list[Tensor]) -> Logs:
        n = self.networks
        vocoder = getattr(n, self.vocoder)
        scores: dict[str, list[float]] = {"pesq": [], "stoi": [], "pesq_true_mel": []}
        scores |= {"log_mel_error": [], "log_mel_distance": []}
        counts = torch.zeros(n.config.codebook_entries, dtype=torch.int64)
        rate = n.config.sample_rate
        for clip in clips:
            own = as_measured(clip, rate)
            mel = n.mel(clip[None].to(self.device))
            indices = n.quantizer.nearest(n.encoder(mel))
            counts += torch.bincount(indices.flatten().cpu(), minlength=len(counts))
            decoded = n.decoder(n.quantizer.lookup(indices))
            scores["log_mel_error"].append(float((decoded - mel).abs().mean()))
            output = as_measured(vocoder(decoded)[0].clamp(-1, 1), rate)
            scores["pesq"].append(metrics.or_nan("pesq", own, output))
            scores["stoi"].append(metrics.or_nan("stoi", own, output))
            scores["log_mel_distance"].append(metrics.log_mel_distance(own, output))
            best = as_measured(vocoder(mel)[0].clamp(-1, 1), rate)
            scores["pesq_true_mel"].append(metrics.or_nan("pesq", own, best))
        means = {name: float(np.nanmean(values)) for name, values in scores.items()}
        return {**means, "entropy_bits": metrics.entropy_bits(counts.numpy())}


class Vocoder(Waveform):
    """Spectral vocoder on what the frozen codec reconstructs.

    Option "true_share": the part of each batch that is given its true mel instead.
    """

    name = "vocoder"
    options: ClassVar[tuple[str, ...]] = (*Waveform.options, "true_share")
    parts: ClassVar[tuple[str, ...]] = ("spectral",)
    needs: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder")

    def losses(self, samples: Tensor) -> Losses:
        with torch.no_grad():
            mel, decoded = self.mels(samples)
        true = round(self.settings.options.get("true_share", 0.0) * len(samples))
        return self.spectral_losses(torch.cat([mel[:true], decoded[true:]]), samples)


class EndToEnd(Waveform):
    """Everything together on the losses of the waveform: the last word on the bitstream.

    So the encoder learns what matters to the ear, not to the picture alone. Options "mel"
    and "commitment": weights of the VQ-VAE's own losses.
    """

    name = "end_to_end"
    options: ClassVar[tuple[str, ...]] = (*Waveform.options, "mel", "commitment")
    # They are ripe when the vocoder is not.
    rates: ClassVar[dict[str, float]] = {"encoder": 0.4, "decoder": 0.4}
    parts: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder", "spectral")
    needs: ClassVar[tuple[str, ...]] = parts

    def losses(self, samples: Tensor) -> Losses:
        options = self.settings.options
        mel, latents = self.encode(samples)
        codes = self.networks.quantizer(latents)
        decoded = self.decode(codes.latents)
        losses = self.spectral_losses(decoded, samples)
        reconstruction = mel_loss(decoded, mel)
        own = options.get("mel", 2.0) * reconstruction
        own = own + options.get("commitment", 1.0) * codes.commitment
        return {
            **losses,
            "total": losses["total"] + own,
            "mel": reconstruction,
            "commitment": codes.commitment,
            "_latents": latents.detach(),
            "_indices": codes.indices,
        }

    def after(self, losses: Losses) -> None:
        self.networks.quantizer.update(losses["_latents"], losses["_indices"])


class Joint(Waveform):
    """Decoder and spectral vocoder together. Option "mel": weight of the decoder's own loss."""

    name = "joint"
    options: ClassVar[tuple[str, ...]] = (*Waveform.options, "mel")
    # It is ripe when the vocoder is not.
    rates: ClassVar[dict[str, float]] = {"decoder": 0.3}
    parts: ClassVar[tuple[str, ...]] = ("decoder", "spectral")
    needs: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder", "spectral")

    def losses(self, samples: Tensor) -> Losses:
        mel, decoded = self.mels(samples)
        losses = self.spectral_losses(decoded, samples)
        reconstruction = mel_loss(decoded, mel)
        total = losses["total"] + self.settings.options.get("mel", 2.0) * reconstruction
        return {**losses, "total": total, "mel": reconstruction}


class Refine(Joint):
    """`Joint` again, late, against an adversary."""

    name = "refine"


class HifiGanVocoder(Waveform):
    """The paper's vocoder, on what the frozen codec reconstructs."""

    name = "hifigan"
    options: ClassVar[tuple[str, ...]] = ("adversarial", "judged", "disturbance")
    parts: ClassVar[tuple[str, ...]] = ("hifigan",)
    needs: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder")
    vocoder: ClassVar[str] = "hifigan"

    def make_discriminator(self) -> nn.Module:
        return WaveformDiscriminator()

    def losses(self, samples: Tensor) -> Losses:
        n = self.networks
        with torch.no_grad():
            _, decoded = self.mels(samples)
        with self.autocast():
            output = n.hifigan(decoded).float()
        target = self.crop(samples)
        waveform = self.waveform_loss(output, target)
        losses = {"total": 15 * waveform, "waveform": waveform}
        return self.heard({**losses, "_output": output, "_target": target})


class ConcealmentModel(Stage):
    """The model that foresees lost columns, over a frozen codec.

    Options "mel" and "disturbance": weights of what losses change in the decoded log-mel, and
    of how PESQ would hear it.
    """

    name = "concealment"
    options: ClassVar[tuple[str, ...]] = ("mel", "disturbance")
    parts: ClassVar[tuple[str, ...]] = ("concealment",)
    needs: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder")

    def __init__(self, networks: Networks, settings: Settings) -> None:
        super().__init__(networks, settings)
        self.disturbance: MelDisturbanceLoss | None = None
        if settings.options.get("disturbance"):
            refuse_disturbance(networks.config.sample_rate)
            self.disturbance = MelDisturbanceLoss(networks.config).to(self.device)

    @staticmethod
    def draw_losses(batch: int, columns: int) -> Tensor:
        """(batch, columns) bool: in each item up to a third, in bursts of up to six columns."""
        longest = torch.randint(1, 7, (batch, 1))
        share = 0.02 + 0.3 * torch.rand(batch, 1)
        begins = torch.rand(batch, columns) < share / ((longest + 1) / 2)
        length = 1 + (longest * torch.rand(batch, columns)).long()
        lost = torch.zeros(batch, columns, dtype=torch.bool)
        for i in range(6):
            lost[:, i:] |= (begins & (length > i))[:, : columns - i]
        return lost

    def foresee(self, latents: Tensor, lost: Tensor) -> Tensor:
        """Latents with what the model foresees in the place of the lost columns."""
        with self.autocast():
            foreseen: Tensor = self.networks.concealment(latents, lost)
        return foreseen.float()

    def errors(self, mel: Tensor, wanted: Tensor, lost: Tensor, foreseen: Tensor) -> Losses:
        """What losses change in the decoded log-mel, by the loudness of the lost frames.

        Those around them, which the decoder makes of the same columns, are in the sum too.
        """
        weights = loudness_weights(mel)
        gone = lost.repeat_interleave(self.networks.decoder.frames, 1)[..., None]
        got = self.decode(foreseen)
        error = ((got - wanted).abs() * weights).sum() / ((weights * gone).sum() + 1e-9)
        heard = {} if self.disturbance is None else {"disturbance": self.disturbance(got, wanted)}
        return {"mel": error, **heard}

    def losses(self, samples: Tensor) -> Losses:
        lost = self.draw_losses(len(samples), self.settings.columns).to(samples.device)
        mel, latents = self.codes(samples)
        with torch.no_grad():
            wanted = self.decode(latents)
        losses = self.errors(mel, wanted, lost, self.foresee(latents, lost))
        weights = {"mel": 1.0, **self.settings.options}
        total = sum((weights[k] * x for k, x in losses.items()), torch.zeros(()))
        return {**losses, "total": total}

    def evaluate(self, clips: list[Tensor]) -> Logs:
        overhang, state = self.networks.mel.overhang, torch.get_rng_state()
        hold = self.networks.concealment.hold
        results: dict[str, list[float]] = {}
        for i, clip in enumerate(clips):
            torch.manual_seed(i)
            columns = len(clip) // self.networks.config.column_samples
            lost = self.draw_losses(1, columns).to(self.device)
            padded = F.pad(clip[None], (overhang, overhang)).to(self.device)
            mel, latents = self.codes(padded)
            wanted = self.decode(latents)
            ways = {"error": self.foresee(latents, lost), "held": hold(latents, lost)}
            for way, foreseen in ways.items():
                for name, error in self.errors(mel, wanted, lost, foreseen).items():
                    results.setdefault(f"{name}_{way}", []).append(float(error))
        torch.set_rng_state(state)
        return {name: sum(errors) / len(errors) for name, errors in results.items()}


STAGES: dict[str, type[Stage]] = {
    stage.name: stage
    for stage in (
        VqVae,
        Adversarial,
        Vocoder,
        Joint,
        EndToEnd,
        Refine,
        HifiGanVocoder,
        ConcealmentModel,
    )
}
