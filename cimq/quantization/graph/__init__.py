"""Reading the graph of a model with torch.fx, and the one form that each of its operations gets."""
