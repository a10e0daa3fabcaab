"""The only way to Vault or OpenBao: port, client, login, session, generations."""
