"""The trainer's own loop: batches of the plan into an engine, and who is told of it."""
