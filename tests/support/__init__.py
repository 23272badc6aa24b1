"""Code that tests share: factories, servers, clients, and oracles, but no tests."""
