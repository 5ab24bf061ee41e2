"""What an audit checks: one module per kind of contradiction."""
