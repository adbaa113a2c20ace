"""Events in order to fresh beliefs: the join, the mini-batches, the update, and the worker that runs them."""
