"""Code that only the model's owner runs: it publishes a model in two parts, and reads both and the publishing key."""
