"""Hydra's plugins register options; those that `conf/hydra` has a file for are taken back.

Hydra warns of a file beside a registered option of the same name, and refuses some. It imports this
after those plugins, as ours come last on the path; in joblib's workers, too.
"""

from hydra.core.config_store import ConfigStore

from pipeline.keys import CONF

for file in CONF.glob("hydra/*/*.yaml"):
    ConfigStore.instance().repo["hydra"].get(file.parent.name, {}).pop(file.name, None)
