"""Searches before a training: the learning rate, the batch size."""
