"""Configurations -> the things they name. The one place that knows both sides."""
