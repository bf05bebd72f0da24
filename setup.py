"""Put conf/, run.py and what `tandem new` copies into the wheel, where `pipeline.shipped` looks."""

from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithShipped(build_py):
    """`build_py` that also copies what a checkout has in its root."""

    def run(self) -> None:
        """Copy the packages, then the rest; an editable install reads the checkout itself."""
        super().run()
        if self.editable_mode:
            return
        shipped = Path(self.build_lib) / "pipeline" / "shipped"
        for name in ("conf", "starter", "sweeps"):
            skipped = ignore_patterns("__pycache__", ".pytest_cache", "outputs")
            copytree(name, shipped / name, dirs_exist_ok=True, ignore=skipped)
        self.copy_file("run.py", str(shipped / "run.py"))


setup(cmdclass={"build_py": BuildWithShipped})
