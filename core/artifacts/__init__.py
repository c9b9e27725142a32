"""Files that operations make: described, cached, published, pushed."""
