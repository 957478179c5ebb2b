"""The built-in cloud: a faithful ECS, in the process or over HTTP."""
