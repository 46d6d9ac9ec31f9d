"""clearflow: ordered queues and fast agents for Prefect."""
