"""The commands of `he-infer`, one in each module; each imports its other modules when it runs."""
