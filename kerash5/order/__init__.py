"""Choose which rows come in which order: permutations, plans, splits. NumPy only, no files."""
