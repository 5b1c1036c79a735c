"""The networks as they run: graphs for ONNX Runtime, and NumPy between them.

`pcodec.networks` has the same ones in torch for training; torch is not needed here.
"""
