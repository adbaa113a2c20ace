"""The nouns: features, examples and the columns of an effect."""
