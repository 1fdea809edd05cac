"""A folder of sealed objects: find files, seal, restore, verify, keep the ledger."""
