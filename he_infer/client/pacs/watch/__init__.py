"""Watches an archive or a folder of received images, classifies what is chosen, and stores exactly one report each."""
