"""Compiled inner loops, one extension module per job; their typed faces are the `.pyi` files."""
