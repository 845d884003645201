"""What the gateway costs: requests a second, latency, CPU and memory, beside a bare server measured in the same run."""
