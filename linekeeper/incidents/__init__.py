"""The only code that opens, changes and resolves incidents: lifecycle, kinds, grouping."""
