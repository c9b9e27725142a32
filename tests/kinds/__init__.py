"""Rerankers, sparse encoders and multi-vector models."""
