"""Read plans: YAML in, `fleet.core.settings` out, with every mistake named and placed."""

from __future__ import annotations

from fleet.plan.load import LoadedPlan, load_plan
from fleet.plan.schema import plan_schema
from fleet.plan.template import render_user_data

__all__ = ["LoadedPlan", "load_plan", "plan_schema", "render_user_data"]
