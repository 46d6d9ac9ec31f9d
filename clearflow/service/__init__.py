"""Answers for people's programs: about their own task, and about any other."""
