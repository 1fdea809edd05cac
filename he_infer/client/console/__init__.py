"""The page in a browser of this machine: images in, results out, and what the server received of them.

It listens on loopback alone, loads nothing from elsewhere, and calls the public `Client`; it knows no ciphertext.
"""
