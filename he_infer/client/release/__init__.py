"""What may leave the client: rounded or noised scores and their budget."""
