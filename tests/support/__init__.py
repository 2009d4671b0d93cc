"""What tests share: accounts, clients, models, servers. No tests."""
