"""Read plans: YAML in, `fleet.core.settings` out, with every mistake named and placed."""
