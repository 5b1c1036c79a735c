"""Measures codecs; needs the packages of ``pip install pcodec-speech[eval]``."""
