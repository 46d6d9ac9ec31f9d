"""The door to the user's code and git: who works here, and on what."""
