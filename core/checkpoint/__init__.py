"""A name becomes files and their meaning."""
