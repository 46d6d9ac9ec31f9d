"""Seeded chaos over real agents, and a referee."""
