"""The trusted side: custody of the secret key, the session with a server, and the path from images to labels."""
