"""A run in the browser, live, on loopback: `fleet watch`."""
