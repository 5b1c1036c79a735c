"""Tokens for language models: grids as sequences, and corpora as shards.

The functions exported here need NumPy only. The other modules implement `pcodec tokens`.
"""

from pcodec.tokens.sequences import delay, flatten, undelay, unflatten

__all__ = ["delay", "flatten", "undelay", "unflatten"]
