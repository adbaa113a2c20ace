"""Where the records of entities are kept, version by version and generation by generation."""
