"""Shared models: what all entities have in common, entering everything else only through its score."""
