"""OpenStack: Keystone v3, Nova, Glance. `client` speaks, `installations` tells what is installed."""
