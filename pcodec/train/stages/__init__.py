"""The stages of training, by name."""

from pcodec.train.stages.base import STAGES

__all__ = ["STAGES"]
