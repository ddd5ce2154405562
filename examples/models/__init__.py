"""Plain PyTorch models of the examples."""
