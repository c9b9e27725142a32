"""What `load` returns."""
