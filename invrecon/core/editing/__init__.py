"""Editing: two branches leave one seed, each under a prompt of its own; the target is held to the source."""
