"""The ways of learning, one file each; adding a file adds a method."""

DEFAULT = "lora_replay_ewc"
