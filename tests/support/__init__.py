"""Code that tests share: factories, servers, clients, oracles; no tests."""
