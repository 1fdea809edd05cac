"""The image cipher: a DNN confusion/diffusion cipher (Algorithm 1) inside a standard authenticated container.

The container (HKDF-SHA256, AES-256-GCM) keeps an image secret and whole; the network inside is unproven.
"""
