"""Optimisers that torch lacks: updates whose cost is that of what they touch."""
