"""onnxsd's own CUDA kernels: compiled for the GPU that is there, and given to ONNX Runtime as operators.

Importing this loads no library; `choice.choose` does, and says why where stock operators are used instead.
"""
