"""Tokens for language models: as sequences, and of whole corpora.

The functions here need NumPy only. The other modules are those of `pcodec tokens`.
"""

from pcodec.tokens.sequences import delay, flatten, undelay, unflatten

__all__ = ["delay", "flatten", "undelay", "unflatten"]
