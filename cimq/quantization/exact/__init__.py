"""The operations whose order of additions is fixed, and the mode in which evaluation answers PyTorch's with them."""
