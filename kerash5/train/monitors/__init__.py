"""Loggers, progress output and profiler: event handlers that do not affect the training."""
