"""The .pcx stream, version 1: docs/format.md in code. Only `transcode` needs a model."""
