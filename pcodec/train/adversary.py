"""The discriminator of adversarial training, with its optimiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pcodec.errors import PcodecError
from pcodec.networks.checkpoint import save_half
from pcodec.train.discriminators import (
    DiscriminatorOutput,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)
from pcodec.train.precision import mixed_precision

Losses = dict[str, Tensor]
"""Scalar tensors by name, on the device. Reading one waits for the device."""
Logs = dict[str, float]
"""Logged numbers by name."""


class Adversary:
    """A discriminator that is trained together with the networks of a stage (the generator)."""

    def __init__(
        self,
        discriminator: nn.Module,
        learning_rate: float,
        device: torch.device,
        rate: float = 1.0,
    ) -> None:
        """rate: learning rate of the discriminator relative to the stage's."""
        self.discriminator, self.autocast = discriminator.to(device), mixed_precision(device)
        group = {"params": discriminator.parameters(), "rate": rate}
        self.optimizer = torch.optim.AdamW([group], learning_rate, (0.8, 0.99), fused=True)

    def _discriminate(self, x: Tensor) -> list[DiscriminatorOutput]:
        with self.autocast():
            outputs: list[DiscriminatorOutput] = self.discriminator(x)
        return outputs

    def update(self, real: Tensor, fake: Tensor) -> Losses:
        """One update of the discriminator."""
        self.discriminator.requires_grad_(True)
        loss = discriminator_loss(self._discriminate(real), self._discriminate(fake.detach()))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), 10.0)
        self.optimizer.step()
        return {"discriminator_loss": loss.detach()}

    def generator_losses(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Adversarial loss and feature-matching loss, scalars with gradients to ``fake``."""
        self.discriminator.requires_grad_(False)
        with torch.no_grad():
            target = self._discriminate(real)
        outputs = self._discriminate(fake)
        return adversarial_loss(outputs), feature_loss(target, outputs)

    def save(self, path: Path) -> None:
        """Writes the discriminator, so that a later training can start from it."""
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
