"""Building blocks shared by all engines; nothing here runs a step."""
