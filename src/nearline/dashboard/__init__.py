"""A deployment, beside its workers -> pages on which people see it learn."""
