"""The console: a local web page that classifies images and shows the results and the bytes that the server received.

It listens only on loopback, loads nothing from other hosts, and calls the public `Client`.
"""
