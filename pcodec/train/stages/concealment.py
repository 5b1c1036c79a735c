"""Stage: the concealment network, which predicts lost columns."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from pcodec.networks.checkpoint import Networks
from pcodec.train.adversary import Logs, Losses
from pcodec.train.losses import MelDisturbanceLoss, loudness_weights, low_loss
from pcodec.train.stages.base import Analysis, Settings, Stage


class ConcealmentModel(Stage):
    """The concealment network, on a frozen codec.

    Options "mel", "low" and "disturbance": weights of the errors of the decoded log-mel and low
    band, and of the loudness loss of the log-mel.
    """

    name = "concealment"
    options: ClassVar[tuple[str, ...]] = ("mel", "low", "disturbance")
    parts: ClassVar[tuple[str, ...]] = ("concealment",)
    needs: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder")

    def __init__(self, networks: Networks, settings: Settings) -> None:
        super().__init__(networks, settings)
        self.disturbance: MelDisturbanceLoss | None = None
        if settings.options.get("disturbance"):
            self.disturbance = MelDisturbanceLoss(networks.config).to(self.device)

    @staticmethod
    def draw_losses(batch: int, columns: int, device: torch.device | None = None) -> Tensor:
        """Random lost columns (batch, columns), bool: 2 to 42 % per item, in bursts of up to 6."""
        longest = torch.randint(1, 7, (batch, 1), device=device)
        share = 0.02 + 0.4 * torch.rand(batch, 1, device=device)
        begins = torch.rand(batch, columns, device=device) < share / ((longest + 1) / 2)
        length = 1 + (longest * torch.rand(batch, columns, device=device)).long()
        lost = torch.zeros(batch, columns, dtype=torch.bool, device=device)
        for i in range(6):
            lost[:, i:] |= (begins & (length > i))[:, : columns - i]
        return lost

    def predict(self, latents: Tensor, lost: Tensor) -> Tensor:
        """Latents with predictions in place of the lost columns."""
        with self.autocast():
            predicted: Tensor = self.networks.concealment(latents, lost)
        return predicted.float()

    def errors(
        self,
        analysis: Analysis,
        wanted: tuple[Tensor, Tensor],
        lost: Tensor,
        predicted: Tensor,
    ) -> Losses:
        """Errors of the decoded log-mel and low band, relative to the loudness of the lost frames.

        They include the frames around those, which the decoder makes from the same columns.
        """
        weights = loudness_weights(analysis.mel)
        gone = lost.repeat_interleave(self.networks.decoder.frames, 1)[..., None]
        got, low = self.decode(predicted)
        error = ((got - wanted[0]).abs() * weights).sum() / ((weights * gone).sum() + 1e-9)
        share = lost.float().mean() + 1e-3
        errors = {"mel": error, "low": low_loss(low, wanted[1], analysis.level) / share}
        if self.disturbance is not None:
            errors["disturbance"] = self.disturbance(got, wanted[0])
        return errors

    def losses(self, samples: Tensor) -> Losses:
        lost = self.draw_losses(len(samples), self.settings.columns, samples.device)
        analysis, latents = self.codes(samples)
        with torch.no_grad():
            wanted = self.decode(latents)
        losses = self.errors(analysis, wanted, lost, self.predict(latents, lost))
        weights = {"mel": 1.0, "low": 0.5, **self.settings.options}
        total = sum((weights[k] * x for k, x in losses.items()), samples.new_zeros(()))
        return {**losses, "total": total}

    def evaluate(self, clips: list[Tensor]) -> Logs:
        state = torch.get_rng_state()
        hold = self.networks.concealment.hold
        results: dict[str, list[float]] = {}
        for i, clip in enumerate(clips):
            torch.manual_seed(i)
            columns = len(clip) // self.networks.config.column_samples
            lost = self.draw_losses(1, columns).to(self.device)
            analysis, latents = self.codes(self.padded(clip))
            wanted = self.decode(latents)
            ways = {"error": self.predict(latents, lost), "held": hold(latents, lost)}
            for way, predicted in ways.items():
                for name, error in self.errors(analysis, wanted, lost, predicted).items():
                    results.setdefault(f"{name}_{way}", []).append(float(error))
        torch.set_rng_state(state)
        return {name: sum(errors) / len(errors) for name, errors in results.items()}
