"""Which rows, in which order: permutations, plans, splits. NumPy only, no file."""
