"""Short programs to start from; each runs in seconds, without a download unless asked for one."""
