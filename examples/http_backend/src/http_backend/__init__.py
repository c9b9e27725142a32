"""A backend of core for servers with the OpenAI embeddings API."""
