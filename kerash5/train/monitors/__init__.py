"""Loggers, progress and profile: told of a fit, without a part in it."""
