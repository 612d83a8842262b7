"""Running an exported folder: sessions over one set of weights, the loop, and the pipeline around them."""
