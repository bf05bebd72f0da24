"""Unregister the options of Hydra's plugins that `conf/hydra` has a file for.

Hydra warns about a file with the name of a registered option, and refuses some. It imports this module
after its plugins, also in joblib's workers, since our folder is the last on the path.
"""

from hydra.core.config_store import ConfigStore

from pipeline.shipped import CONF

for file in CONF.glob("hydra/*/*.yaml"):
    ConfigStore.instance().repo["hydra"].get(file.parent.name, {}).pop(file.name, None)
