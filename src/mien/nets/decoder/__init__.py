"""The generator as fast as the machine allows, with the same result."""
