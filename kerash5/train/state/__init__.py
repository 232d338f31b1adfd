"""What a model and its training consist of: variables, counters, random state."""
