"""What a host is made of: one file a source, all of them put together in `inventory`."""
