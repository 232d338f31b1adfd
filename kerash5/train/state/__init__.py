"""The state of a model and its training: variables, counters, random state."""
