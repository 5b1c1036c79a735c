"""Measuring the codec; needs the extra packages of ``pip install pcodec-speech[eval]``."""
