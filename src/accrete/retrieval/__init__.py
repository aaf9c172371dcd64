"""Retrieval: passages found by their words, and states found by their likeness. No weight changes."""
