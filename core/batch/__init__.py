"""Jobs over files: the texts of many rows embedded into Parquet parts, resumed where they ended."""
