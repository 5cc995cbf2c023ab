"""What writes README, pictures and packages; run from the root as `python -m scripts.NAME`."""
