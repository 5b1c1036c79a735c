"""A codec's networks as a processor runs them: graphs for ONNX Runtime, and NumPy between them.

What they learn in is `pcodec.networks`, in torch, which is not needed here.
"""
