"""The world of the built-in model `shapes`: scenes, their pictures and captions, the training, a judge."""
