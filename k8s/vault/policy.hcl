# All that the broker of search-mcp may do, beside what Vault's 'default' policy gives every token about itself
# (auth/token/lookup-self, renew-self, revoke-self).
path "database/creds/orders" { capabilities = ["read"] }
path "secret/data/search-api" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
