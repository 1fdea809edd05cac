"""Algorithm 1, the DNN confusion and diffusion cipher: pixels and a key in, scrambled pixels out."""
