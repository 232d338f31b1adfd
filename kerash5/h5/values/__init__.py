"""What stored values mean: casts that lose nothing without a word."""
