"""Commands of the image vault: protect, restore, verify, inspect, rekey."""
