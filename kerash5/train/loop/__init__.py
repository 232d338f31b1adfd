"""The trainer's own loop: feeds batches of the plan to an engine, and calls event handlers."""
