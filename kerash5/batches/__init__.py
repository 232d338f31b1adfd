"""Turn a source and a plan into batches: step -> arrays."""
