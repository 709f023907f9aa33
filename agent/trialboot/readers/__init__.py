"""What is looked at: one subject a file, reading apart from parsing. Readers decide nothing."""
