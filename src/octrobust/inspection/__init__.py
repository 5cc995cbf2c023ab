"""A stored model, asked about images that are in no split."""
