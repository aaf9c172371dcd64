"""The ways of learning, one file each; adding a file adds a method."""

DEFAULT = "retrieve_logits"
