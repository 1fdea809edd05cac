"""Layouts: which value lies in which slot or coefficient, layer by layer."""
