"""Custody of a client's key-encryption key: one 32-byte key, wrapped once for each way of opening the key file.

A wrapping is a passphrase, an entry of the system's keyring, a key in a PKCS#11 token, or a set of SLIP-39 shares. Any
one of them opens the file; each can be added and removed without changing the others.
"""
