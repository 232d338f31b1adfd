"""The same batches as a Keras data set (`_keras`) and as a Grain data set (`_grain`)."""
