"""Draws codebook.png, beside this file, from the shipped model."""

from pathlib import Path

from pcodec import models
from pcodec.report.drawings import draw_codebook

with Path(__file__).with_name("codebook.png").open("wb") as file:
    draw_codebook(models.find(), file)
