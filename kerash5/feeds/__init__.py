"""The faces of the same batches: `_keras` for Keras, `_grain` for Grain."""
