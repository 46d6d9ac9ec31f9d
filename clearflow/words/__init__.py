"""The words of clearflow, as pure code: nothing here reaches outside the process."""
