"""The server's HTTP: routes, headers and status codes. Only this package knows them."""
