"""The way out of a sandbox: a list of hosts, a proxy on this side, a forwarder on the other."""
