"""From words to what a text encoder takes: tokenizers of checkpoints, and a vocabulary for random ones."""
