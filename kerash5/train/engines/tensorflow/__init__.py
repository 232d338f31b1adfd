"""Run optimizer steps on TensorFlow: one traced function for many steps."""
