"""A fit on disk: checkpoints, the folder of a run, and how both are resumed."""
