"""The commands of `he-infer`, one a module; each imports what it needs when it runs."""
