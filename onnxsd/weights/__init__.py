"""A checkpoint's tensors, the recipe that makes an initializer of each, and the stream that writes them."""
