"""From a prepared model to one of integers."""
