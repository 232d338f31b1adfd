"""Run optimizer steps on PyTorch: Keras' own step, or one captured from it."""
