"""The vault's key and the passphrase that protects its file."""
