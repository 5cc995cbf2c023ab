"""DVC's experiments: queued from a grid, watched, read and compared."""
