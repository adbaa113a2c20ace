"""Personalization models that keep learning while they serve."""
