"""Rewriting OpenVINO graphs: what only this runtime needs."""
