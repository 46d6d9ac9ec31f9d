"""How fast, how light, how sure: measured beside what a user would otherwise run."""
