"""The trusted side: the secret key and its custody, the session with a server, images to features to scores."""
