"""Model definitions, authored once over the vocabulary of `onnxsd.ops`."""
