"""What is decided: pure values and functions. No I/O, no clock, no log, no library."""
