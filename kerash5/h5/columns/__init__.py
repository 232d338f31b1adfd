"""Which data set a column is, and how its rows become what a model takes."""
