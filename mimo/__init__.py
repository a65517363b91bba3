"""The network: its specification, weights, training and pictures."""
