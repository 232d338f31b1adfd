"""Which batch a request is for: passes of Keras' loops, and passes outside Keras."""
