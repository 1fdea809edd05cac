"""What the model's owner alone runs: publishing a model in two parts. It holds both halves, and the publishing key."""
