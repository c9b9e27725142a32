"""`core serve` under load, beside `encode` in a process and other servers."""
