"""The quality ladder: a suite of shiny objects, the method and its baselines at equal budgets, and their tables."""
