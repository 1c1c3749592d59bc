"""State that outlives a request: locks, drafts, leases, event logs, approvals, webhooks, and the store's maintenance."""
