"""Is the image cipher strong and fast? Statistics, chosen images, timing."""
