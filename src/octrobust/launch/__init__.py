"""Start a stage on several processes or machines. Like tracking, it cannot change a result."""
