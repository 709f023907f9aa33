"""What is changed on this host. Writers act and have no opinion."""
