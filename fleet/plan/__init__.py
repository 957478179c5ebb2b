"""Read plans: YAML in, `fleet.core.settings` out, with every mistake named and placed."""

from __future__ import annotations

from fleet.plan.load import LoadedPlan, load_plan
from fleet.plan.schema import plan_schema

__all__ = ["LoadedPlan", "load_plan", "plan_schema"]
