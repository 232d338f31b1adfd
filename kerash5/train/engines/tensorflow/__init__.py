"""Optimizer steps on TensorFlow: one traced function for many steps."""
