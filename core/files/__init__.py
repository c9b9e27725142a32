"""Access to files that is safe: paths, weights, writes that appear whole or not at all."""
