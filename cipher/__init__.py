"""The image cipher: a DNN confusion/diffusion cipher (Algorithm 1) inside a standard authenticated container.

What keeps an image secret and whole is the container (HKDF-SHA256, AES-256-GCM); the network inside is unproven.
"""
