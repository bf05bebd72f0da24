"""Lay the user's own `conf/` over the built-in one, wherever a config is composed."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from pipeline.config.overlay import own_conf


class WorkingFolder(SearchPathPlugin):
    """Hydra plugin that searches `conf/` of the working folder before the built-in one."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put it first: the first folder with an option wins."""
        if own := own_conf():
            search_path.prepend("working-folder", f"file://{own}", anchor="main")
