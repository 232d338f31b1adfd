"""The batches of an `H5Dataset` for loops outside Keras: several epochs, PyTorch, tf.data."""
