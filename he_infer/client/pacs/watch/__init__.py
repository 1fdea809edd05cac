"""Watches an archive or a folder of received images, classifies the chosen ones, and stores one report for each."""
