"""The networks in torch, for training. `pcodec.runtime` has the same ones to run, file by file.

Tensors of features are ``(batch, time, channels)``.
"""
