"""From a checkpoint in diffusers' layout to a verified ONNX folder."""
