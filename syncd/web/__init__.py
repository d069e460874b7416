"""What an operator looks at: the status page, /healthz and /metrics. Served inside the daemon, on loopback only."""
