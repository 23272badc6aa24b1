"""What tests share: factories, servers, clients, oracles; no test is here."""
