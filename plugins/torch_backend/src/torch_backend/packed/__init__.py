"""Batches without padding: the texts' tokens end to end, computed by encoders that know bounds."""
