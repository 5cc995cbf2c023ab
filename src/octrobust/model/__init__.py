"""The network: build, weights, freezing, saving and loading."""
