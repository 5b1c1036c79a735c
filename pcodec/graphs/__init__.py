"""The networks as ONNX graphs, made when a model is saved. Needs onnx, which running does not.

Files have the names of those in `networks`. A graph names its weights; they stay in the part's
safetensors file, as ONNX's external data.
"""
