"""Check which labels a loss accepts: facts about their values, and rules on them."""
