"""Worker processes: the only place where hostile bytes are parsed."""
