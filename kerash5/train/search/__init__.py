"""Searches before training: the learning rate, the batch size."""
