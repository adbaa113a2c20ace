"""Tables to examples, and examples to trained models."""
