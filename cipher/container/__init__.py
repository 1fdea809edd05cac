"""The authenticated container around the inner cipher: header, wrapped key, sealed body."""
