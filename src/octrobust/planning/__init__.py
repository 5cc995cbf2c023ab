"""What a run will take, before it is started: arithmetic, a short calibration, and named GPUs."""
