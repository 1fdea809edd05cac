"""What does encryption cost? Speed, bytes and peers."""
