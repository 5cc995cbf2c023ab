"""The benchmark of Elastic-Net attacks, in parts: see `benchmarks/ead.py`."""
