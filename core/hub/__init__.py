"""The Hugging Face Hub: what is read from it and written to it."""
