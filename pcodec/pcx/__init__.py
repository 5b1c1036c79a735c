"""The .pcx stream, version 1: docs/format.md in code. Needs neither torch nor a model."""
