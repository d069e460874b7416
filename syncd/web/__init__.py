"""The status page, /healthz and /metrics. The daemon serves them on loopback. They read state and request passes."""
