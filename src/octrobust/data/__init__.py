"""From images anywhere to checked, split, memory-mapped arrays."""
