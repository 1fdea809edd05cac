"""Commands of the hospital and the model owner: train, keys, classify, receipts."""
