"""The page of a measurement: its tables, plots, pictures and listening tests."""
