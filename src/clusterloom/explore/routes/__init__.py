"""What the page can ask for, each path a function that takes the session and the values of the request."""
