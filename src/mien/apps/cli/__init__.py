"""The commands of `mien`, a module for each kind. `mien.apps.cli.cli` puts them together."""
