"""Multi-vector models: a vector for every token, compared by MaxSim."""
