"""Encoding in many processes."""
