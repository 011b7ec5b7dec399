"""The ladder: a shiny suite, the method and its baselines under one budget, and the table that compares them."""
