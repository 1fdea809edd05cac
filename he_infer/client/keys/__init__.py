"""The client's key file and the CKKS secret key in it. No other package holds a secret."""
