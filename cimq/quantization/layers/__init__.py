"""Quantised layers: convolutions, linear layers, attention, and products that a forward makes by function calls."""
