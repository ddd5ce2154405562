"""Training of prepared models."""
