"""Programs for other interpreters, whose packages cannot live beside this project's; they import nothing of it."""
