"""Run optimizer steps on JAX: one compiled program for many steps."""
