"""Interfaces that clients speak: what they send, and what they are answered."""
