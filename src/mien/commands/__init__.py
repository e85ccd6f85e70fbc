"""The commands of `mien`, a module for each kind. `mien.cli` puts them together."""
