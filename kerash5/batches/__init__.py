"""From a source and a plan to batches: step -> arrays."""
