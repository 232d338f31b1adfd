"""Which labels a loss can take: facts of the values, and the rules on them."""
