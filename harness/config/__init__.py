"""Run configs: reading, checking and resolving them. Knows nothing about engines or suites.

A run config is YAML. Names in `models` and `suites` stand for files of `configs/models` and
`configs/suites`; what is kept with the results is the resolved config, with no names left in it.
"""

from harness.config.digests import changed_keys, digest, to_yaml
from harness.config.located_yaml import Document, KeyPath, OptionError, dotted, explain, unknown_key
from harness.config.paths import as_written, bare_name, base_folder, find, locate, names, registry
from harness.config.resolve import load_config, load_model, load_options
from harness.config.schemas import (
    ENGINES,
    EngineSpec,
    ModelSpec,
    Openness,
    RunConfig,
    SuiteSpec,
    Switch,
    hub_id,
)
from harness.config.variants import DRAWS, drawn_by

__all__ = [
    "DRAWS",
    "ENGINES",
    "Document",
    "EngineSpec",
    "KeyPath",
    "ModelSpec",
    "Openness",
    "OptionError",
    "RunConfig",
    "SuiteSpec",
    "Switch",
    "as_written",
    "bare_name",
    "base_folder",
    "changed_keys",
    "digest",
    "dotted",
    "drawn_by",
    "explain",
    "find",
    "hub_id",
    "load_config",
    "load_model",
    "load_options",
    "locate",
    "names",
    "registry",
    "to_yaml",
    "unknown_key",
]
