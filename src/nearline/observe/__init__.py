"""What a running system says of itself: every metric, declared once."""
