"""The pages, one module each: what it draws into its tab, and what its buttons run."""
