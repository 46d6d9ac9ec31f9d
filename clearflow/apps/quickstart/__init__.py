"""What `clearflow quickstart` has its agents run."""
