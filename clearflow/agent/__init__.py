"""The agent: takes tasks from queues and has a supervisor run each."""
