"""What was shown and what people did about it: impressions, feedback, and the log that keeps them."""
