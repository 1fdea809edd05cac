"""The untrusted side: HTTP routes, authentication, worker processes, stores. It cannot load what decrypts."""
