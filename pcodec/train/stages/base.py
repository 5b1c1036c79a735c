"""The base classes of the training stages: settings, the training step, measurement."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pcodec.audio.resample import Resampler
from pcodec.config import CodecConfig
from pcodec.errors import PcodecError, nearest
from pcodec.eval import metrics
from pcodec.networks.calibration import measured
from pcodec.networks.checkpoint import Networks
from pcodec.networks.excitation import Pitch, seen
from pcodec.networks.mel import level_of, normalize
from pcodec.train.adversary import Adversary, Logs, Losses
from pcodec.train.discriminators import SpectrogramDiscriminator
from pcodec.train.losses import (
    DisturbanceLoss,
    EnvelopeLoss,
    MultiResolutionMelLoss,
    level_loss,
    limit_gradient,
    low_loss,
    mel_loss,
    phase_loss,
)
from pcodec.train.pitch import pitch_loss, track_pitch
from pcodec.train.precision import mixed_precision
from pcodec.train.report import say

MIN_STEPS_TO_COMPILE = 100
"""Stages with fewer steps are not compiled, as that takes longer than it saves."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """One stage's table of train.toml."""

    steps: int
    batch: int = 16
    """Crops per step."""
    columns: int = 32
    """Columns per crop."""
    learning_rate: float = 1e-3
    warm_up: int = 200
    """Steps of learning-rate warm-up."""
    seed: int = 0
    ema: float = 0.999
    """Decay per step of the moving average of the weights."""
    share: float = 1.0
    """Weight of the trained average in the exported mean; the rest goes to the starting weights."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Weights of the losses, by name."""
    minutes: float = 0
    """Minutes that the stage took when the recipe was made; 0 for unknown."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "columns"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(
                    f"{name} = {getattr(self, name)!r}: must be an integer, at least 1"
                )
        for name in ("learning_rate", "warm_up", "ema", "share", "minutes"):
            if not isinstance(getattr(self, name), (int, float)) or getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)!r}: must be a number, at least 0")

    def scaled(self, times: int) -> Settings:
        """Settings for batches that are ``times`` as large, with the same total number of crops.

        The learning rate grows with the square root of the factor, as is usual for Adam. The
        moving average spans the same number of crops.
        """
        options = dict(self.options)
        if "adversarial_items" in options:
            options["adversarial_items"] *= times
        return dataclasses.replace(
            self,
            steps=math.ceil(self.steps / times),
            batch=self.batch * times,
            learning_rate=self.learning_rate * math.sqrt(times),
            warm_up=math.ceil(self.warm_up / times),
            ema=self.ema**times,
            options=options,
        )


class Analysis(NamedTuple):
    """The input of the encoder."""

    mel: Tensor
    """Log-mel (B, frames, bands)."""
    low: Tensor
    """Low band (B, frames, 2 * bins), each column divided by its level."""
    level: Tensor
    """Level of the low band, (B, columns)."""

    @classmethod
    def of(cls, networks: Networks, mel: Tensor, low: Tensor) -> Analysis:
        """Computes it from the log-mel and low band of the front end."""
        level = level_of(low, networks.encoder.frames)
        return cls(mel, normalize(low, level), level)

    def codec_loss(self, decoded: tuple[Tensor, Tensor], weights: dict[str, float]) -> Losses:
        """Losses of a decoded log-mel and low band, and "codec", their weighted sum.

        weights: of "mel" and "low".
        """
        mel, low = mel_loss(decoded[0], self.mel), low_loss(decoded[1], self.low, self.level)
        total = weights.get("mel", 1.0) * mel + weights.get("low", 1.0) * low
        return {"mel": mel, "low": low, "codec": total}

    def low_snr(self, low: Tensor) -> float:
        """Signal-to-noise ratio of a decoded low band, dB, columns weighted by their levels."""
        shape = (*self.level.shape, -1)
        power = self.level.square()[..., None]
        signal = (self.low.reshape(shape).square() * power).sum()
        noise = ((low - self.low).reshape(shape).square() * power).sum()
        return float(10 * (signal / noise).log10())


class Stage:
    """A training stage: the interface that the training loop uses."""

    name: str
    parts: ClassVar[tuple[str, ...]]
    """Parts of a model that the stage trains and exports."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Parts that must have been trained before."""
    max_norm: ClassVar[float] = 1.0
    """Norm to which each module's gradients are clipped."""
    rates: ClassVar[dict[str, float]] = {}
    """Learning rates of modules relative to the stage's."""
    options: ClassVar[tuple[str, ...]] = ()
    """Options that a recipe may set."""

    def __init__(self, networks: Networks, settings: Settings) -> None:
        self.check(networks.config, settings)
        self.networks, self.settings = networks, settings
        self.device = networks.mel.window.device
        self.autocast = mixed_precision(self.device)
        self.adversary: Adversary | None = None
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
        self.compiled, disabled = self.losses, os.environ.get("TORCH_COMPILE_DISABLE") == "1"
        self.compiles = settings.steps >= MIN_STEPS_TO_COMPILE and not disabled
        if self.compiles:
            # Complex numbers are in FFTs alone, which are not worth compiling.
            warnings.filterwarnings("ignore", "Torchinductor .* complex operators", UserWarning)
            self.compiled = torch.compile(self.losses, dynamic=False)

    @classmethod
    def check(cls, config: CodecConfig, settings: Settings) -> None:
        """PcodecError if the stage's options do not exist, or do not fit the model."""
        for name, value in settings.options.items():
            if name not in cls.options:
                like = nearest(name, cls.options)
                known = f"did you mean {like}?" if like else f"known: {', '.join(cls.options)}"
                raise PcodecError(f"stage {cls.name} has no option {name}; {known}")
            if not isinstance(value, (int, float)):
                raise PcodecError(f"stage {cls.name}: option {name} = {value!r}: must be a number")
        if settings.options.get("disturbance") and config.sample_rate != DisturbanceLoss.RATE:
            rate = config.sample_rate
            raise PcodecError(f"option disturbance: PESQ is for 16000 Hz, this model has {rate} Hz")

    def crop(self, samples: Tensor) -> Tensor:
        """The samples that the mel frames stand for: without the overhang at both ends."""
        overhang = self.networks.mel.overhang
        return samples[:, overhang : samples.shape[1] - overhang]

    def padded(self, clip: Tensor) -> Tensor:
        """A clip (n,) -> samples (1, n + 2 * overhang) on the device, padded with silence."""
        overhang = self.networks.mel.overhang
        return nn.functional.pad(clip[None], (overhang, overhang)).to(self.device)

    def encode(self, samples: Tensor) -> tuple[Analysis, Tensor]:
        """Samples with overhang -> input of the encoder, and latents before quantisation."""
        with torch.no_grad():
            analysis = Analysis.of(self.networks, *self.networks.mel.frames(samples))
        with self.autocast():
            return analysis, self.networks.encoder(analysis.mel, analysis.low).float()

    @torch.no_grad()
    def codes(self, samples: Tensor) -> tuple[Analysis, Tensor]:
        """Samples with overhang -> input of the encoder, and quantised latents; no gradient."""
        analysis, latents = self.encode(samples)
        quantizer = self.networks.quantizer
        return analysis, quantizer.lookup(quantizer.nearest(latents))

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Quantised latents -> log-mel (B, frames, bands), low band (B, frames, 2 * bins)."""
        with self.autocast():
            mel, low = self.networks.decoder(latents)
            return mel.float(), low.float()

    def losses(self, samples: Tensor) -> Losses:
        """Losses by name; "total" is minimised. Tensors for other methods start with "_"."""
        raise NotImplementedError

    @torch.no_grad()
    def calibrate(self, samples: Tensor) -> None:
        """Measures what the bytes of the blocks that it trains must hold, on a batch."""
        with measured(self.networks, self.networks.reach):
            self.losses(samples.to(self.device))

    def forward(self, samples: Tensor) -> Losses:
        """`losses`, compiled if possible."""
        try:
            return self.compiled(samples)
        except torch._dynamo.exc.TorchDynamoException as error:  # no compiler, no Python.h, ...
            why = str(error).strip().splitlines()[0]
            say(f"{self.name}: cannot be compiled, so steps take about twice as long ({why})")
            self.compiled = self.losses
            return self.losses(samples)

    def step(self, samples: Tensor) -> Losses:
        """One update on samples (B, n + 2 * overhang); does not wait for the device."""
        losses = self.forward(samples.to(self.device, non_blocking=True))
        extra = self.add_adversarial_loss(losses)
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        norms = {
            f"norm_{name}": nn.utils.clip_grad_norm_(parameters, self.max_norm)
            for name, parameters in self.parameters.items()
        }
        self.optimizer.step()
        logged = {k: v.detach() for k, v in losses.items() if not k.startswith("_")}
        self.update_codebook(losses)
        return {**logged, **extra, **norms}

    def add_adversarial_loss(self, losses: Losses) -> Losses:
        """Adds the adversarial losses, which are not compiled, to the total; returns them."""
        return {}

    def update_codebook(self, losses: Losses) -> None:
        """Updates the codebook, in stages that train it."""

    def set_learning_rate(self, rate: float) -> None:
        others = [] if self.adversary is None else [self.adversary.optimizer]
        for optimizer in (self.optimizer, *others):
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("rate", 1.0)

    def state(self) -> dict[str, Any]:
        """The state that a resumed run needs."""
        state = {"trained": self.trained.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.adversary is not None:
            state["adversary"] = self.adversary.state_dict()
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        self.trained.load_state_dict(state["trained"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.adversary is not None and "adversary" in state:  # else the adversary is new
            self.adversary.load_state_dict(state["adversary"])

    def evaluate(self, clips: list[Tensor]) -> Logs:
        """Scores on clips (n,) of whole columns."""
        raise NotImplementedError


def as_measured(samples: Tensor, rate: int) -> metrics.Samples:
    """Samples (n,) at the rate of the metrics."""
    return Resampler(rate, metrics.RATE)(samples.cpu().numpy(), last=True)


class Waveform(Stage):
    """Base class of the stages with a vocoder.

    Options:
    "adversarial": weight of the adversarial losses; 0 for none.
    "adversarial_items": number of items at the end of a batch that the discriminators see.
    "free": share of items at the end of a batch that are synthesised with the predicted pitch, as
    in decoding; the others have the true pitch.
    "disturbance": weight of the loudness loss.
    "envelope": weight of the loss of envelopes.
    "level": weight of the level loss.
    """

    max_norm: ClassVar[float] = 10.0
    options: ClassVar[tuple[str, ...]] = (
        "adversarial",
        "adversarial_items",
        "free",
        "disturbance",
        "envelope",
        "level",
    )
    vocoder: ClassVar[str] = "spectral"

    def __init__(self, networks: Networks, settings: Settings) -> None:
        super().__init__(networks, settings)
        rate = networks.config.sample_rate
        self.waveform_loss = MultiResolutionMelLoss(rate).to(self.device)
        self.disturbance = DisturbanceLoss().to(self.device)
        self.envelope = EnvelopeLoss(rate).to(self.device)
        # Not compiled: its overlapping columns would be ten times slower.
        self.consistency = torch.compiler.disable(networks.spectral.consistency)
        if settings.options.get("adversarial"):
            discriminator = self.make_discriminator()
            self.adversary = Adversary(discriminator, settings.learning_rate, self.device)

    def make_discriminator(self) -> nn.Module:
        return SpectrogramDiscriminator()

    def reconstruct(self, samples: Tensor) -> tuple[Analysis, tuple[Tensor, Tensor]]:
        """Samples with overhang -> input of the encoder; decoded log-mel and low band."""
        analysis, latents = self.codes(samples)
        return analysis, self.decode(latents)

    def spectral_losses(self, decoded: tuple[Tensor, Tensor], samples: Tensor) -> Losses:
        """Regression losses of the spectral vocoder on a decoded log-mel and low band."""
        n = self.networks
        mel, low = (limit_gradient(x) for x in decoded)
        target = self.crop(samples)
        with torch.no_grad():
            stft = n.spectral.inverse_stft
            overhang = n.mel.overhang - stft.overhang
            framed = samples[:, overhang : samples.shape[1] - overhang]
            wanted = torch.fft.rfft(framed.unfold(-1, stft.n_fft, stft.hop) * stft.window)
            pitch = track_pitch(framed, wanted, n.spectral.excitation)
        with self.autocast():
            logits = n.spectral.excitation.logits(seen(mel, low))
            tracking = pitch_loss(logits, pitch)
            # The last items get the predicted pitch and pulses, as in decoding.
            forced = len(mel) - round(self.settings.options.get("free", 0.5) * len(mel))
            own = n.spectral.excitation.pitch(logits.detach().float())
            own = own._replace(frame=pitch.frame)
            pitch = Pitch(
                *(torch.cat([a[:forced], b[forced:]]) for a, b in zip(pitch, own, strict=True))
            )
            spectrum = n.spectral.spectrum(mel, low, pitch=pitch)
        output = n.spectral.synthesize(self.consistency(spectrum))
        waveform = self.waveform_loss(output, target)
        phase = phase_loss(spectrum, wanted)
        losses = {"pitch": tracking, "waveform": waveform, "phase": phase}
        total = 15 * waveform + phase + 0.2 * tracking
        losses = {**losses, "total": total, "_output": output, "_target": target}
        return self.add_loudness_losses(losses)

    def add_loudness_losses(self, losses: Losses) -> Losses:
        """Adds the losses of loudness, envelopes and level, if they have a weight."""
        if weight := self.settings.options.get("envelope", 0.0):
            losses["envelope"] = self.envelope(losses["_output"], losses["_target"])
            losses["total"] = losses["total"] + weight * losses["envelope"]
        if weight := self.settings.options.get("level", 0.0):
            losses["level"] = level_loss(losses["_output"], losses["_target"])
            losses["total"] = losses["total"] + weight * losses["level"]
        if weight := self.settings.options.get("disturbance", 0.0):
            losses["disturbance"] = self.disturbance(losses["_output"], losses["_target"])
            losses["total"] = losses["total"] + weight * losses["disturbance"]
        return losses

    def add_adversarial_loss(self, losses: Losses) -> Losses:
        if self.adversary is None:
            return {}
        real, fake = losses["_target"], losses["_output"]
        # The last items: those with the predicted pitch.
        items = self.settings.options.get("adversarial_items", len(real))
        real, fake = real[-items:], fake[-items:]
        logs = self.adversary.update(real, fake)
        adversarial, features = self.adversary.generator_losses(real, fake)
        weight = self.settings.options["adversarial"]
        losses["total"] = losses["total"] + weight * (adversarial + 4 * features)
        own = {"adversarial_loss": adversarial.detach(), "feature_loss": features.detach()}
        return {**logs, **own}

    def evaluate(self, clips: list[Tensor]) -> Logs:
        n = self.networks
        vocoder = getattr(n, self.vocoder)
        scores: dict[str, list[float]] = {"pesq": [], "stoi": [], "pesq_true_mel": []}
        scores |= {"log_mel_error": [], "log_mel_distance": [], "low_snr": []}
        counts = torch.zeros(n.config.codebook_entries, dtype=torch.int64)
        rate = n.config.sample_rate
        for clip in clips:
            own = as_measured(clip, rate)
            analysis = Analysis.of(n, *n.mel(clip[None].to(self.device)))
            indices = n.quantizer.nearest(n.encoder(analysis.mel, analysis.low))
            counts += torch.bincount(indices.flatten().cpu(), minlength=len(counts))
            mel, low = n.decoder(n.quantizer.lookup(indices))
            scores["log_mel_error"].append(float((mel - analysis.mel).abs().mean()))
            scores["low_snr"].append(analysis.low_snr(low))
            output = as_measured(vocoder(mel, low)[0].clamp(-1, 1), rate)
            scores["pesq"].append(metrics.or_nan("pesq", own, output))
            scores["stoi"].append(metrics.or_nan("stoi", own, output))
            scores["log_mel_distance"].append(metrics.log_mel_distance(own, output))
            best = as_measured(vocoder(analysis.mel, analysis.low)[0].clamp(-1, 1), rate)
            scores["pesq_true_mel"].append(metrics.or_nan("pesq", own, best))
        means = {name: float(np.nanmean(values)) for name, values in scores.items()}
        return {**means, "entropy_bits": metrics.entropy_bits(counts.numpy())}
