"""Makes a view of a project in W&B: torch and JAX side by side, a line for each backend and setting.

    pip install wandb-workspaces
    python sweeps/workspace.py ENTITY --sweep both

Open it by the link that is printed. Running it again makes another view; views can be deleted in W&B.
`--show` prints what would be sent, and needs neither login nor network.
"""

import argparse
import json
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

CURVES = ("val/loss", "val/accuracy", "train/loss", "optim/lr")
BARS = (
    "throughput", "seconds.total", "seconds.compile", "seconds.train", "peak_memory_mb",
    "test/accuracy", "test/loss", "best.value",
)  # fmt: skip
COLUMNS = (
    "config:backend",
    "config:seed",
    "summary:status",
    "summary:best.value",
    "summary:throughput",
)


def workspace(entity: str, project: str = "tandem", sweep: str | None = None) -> ws.Workspace:
    """The view; nothing is sent.

    Runs are grouped by backend, and within it by their group, the runs that differ by the seed alone:
    curves and bars show each group's mean, and its spread over seeds.

    Args:
        entity: W&B user or team.
        project: that holds the runs.
        sweep: of which to show the runs; None: all of the project.
    """
    filters = [expr.Metric("JobType") != "comparison"]
    if sweep:
        filters.append(expr.Config("sweep_name") == sweep)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"torch and JAX{f', {sweep}' if sweep else ''}",
        sections=[
            section("Over steps", [curve(key, "Step") for key in CURVES]),
            section("Over seconds", [curve(key, "perf/seconds") for key in CURVES[:3]]),
            section("Speed, memory and result", [bar(key) for key in BARS]),
        ],
        runset_settings=ws.RunsetSettings(
            filters=filters,
            groupby=[expr.Config("backend"), expr.Metric("Group")],
            pinned_columns=list(COLUMNS),
        ),
    )


def section(name: str, panels: list[Any]) -> ws.Section:
    """Panels under a heading, open."""
    return ws.Section(name=name, panels=panels, is_open=True)


def curve(key: str, axis: str) -> wr.LinePlot:
    """A metric over an axis, as it was logged: nothing is smoothed."""
    return wr.LinePlot(
        title=key, x=axis, y=[key], groupby_rangefunc="minmax", smoothing_type="none"
    )


def bar(key: str) -> wr.BarPlot:
    """A number of the runs' summaries."""
    return wr.BarPlot(title=key, metrics=[key], groupby_aggfunc="mean", groupby_rangefunc="stddev")


def main() -> None:
    """`python sweeps/workspace.py ENTITY`"""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("entity", help="W&B user or team")
    parser.add_argument("--project", default="tandem", help="as logger.wandb.project")
    parser.add_argument("--sweep", help="the name (or W&B's id) of one sweep")
    parser.add_argument("--show", action="store_true", help="print the view and send nothing")
    given = parser.parse_args()
    view = workspace(given.entity, given.project, given.sweep)
    if given.show:
        print(
            json.dumps(json.loads(view._to_model().spec.model_dump_json(by_alias=True)), indent=2)
        )
    else:
        view.save()  # prints its link


if __name__ == "__main__":
    main()
