"""Tokens for language models: as sequences to learn from, and of whole corpora.

The functions here need NumPy alone; `pcodec tokens` is what the rest of the package does.
"""

from pcodec.tokens.sequences import delay, flatten, undelay, unflatten

__all__ = ["delay", "flatten", "undelay", "unflatten"]
