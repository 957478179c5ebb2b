"""Huawei-style ECS: Huawei Cloud, Open Telekom Cloud, Flexible Engine."""
