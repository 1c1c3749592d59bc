"""What outlives a request: locks, leases, event logs, approvals, webhooks, and what looks after the store."""
