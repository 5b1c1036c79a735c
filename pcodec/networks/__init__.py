"""The networks in torch, to be trained; `pcodec.runtime` has those that run, file by file.

Every tensor of features is laid out ``(batch, time, channels)``.
"""
