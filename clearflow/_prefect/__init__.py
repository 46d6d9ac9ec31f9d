"""The door to Prefect: everything that is said to its server, and its private names."""
