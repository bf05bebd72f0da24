"""Commands as the user types them, for messages and help."""

from pipeline.job_context import job_context


def command(name: str) -> str:
    """Return a command: `tandem run` if the command `tandem` started this process, else `python run.py`."""
    if job_context().by_tandem:
        return f"tandem {name}"
    return "python run.py" if name == "run" else f"python -m pipeline.{name}"
