"""An adversary: a discriminator that learns beside what it judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pcodec.errors import PcodecError
from pcodec.networks.checkpoint import save_half
from pcodec.train.discriminators import Judgement, discriminator_loss, feature_loss, generator_loss
from pcodec.train.precision import mixed_precision

Losses = dict[str, Tensor]
"""scalars by name, where they were computed: to look at one is to wait for it"""
Logs = dict[str, float]
"""scalars by name, as they are told"""


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

    def update(self, real: Tensor, fake: Tensor) -> Losses:
        """One update of the discriminator."""
        self.discriminator.requires_grad_(True)
        loss = discriminator_loss(self._judge(real), self._judge(fake.detach()))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), 10.0)
        self.optimizer.step()
        return {"discriminator": loss.detach()}

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
