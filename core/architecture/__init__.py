"""What a checkpoint computes: its modules, read from and written to configuration files."""
