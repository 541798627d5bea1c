"""Programs: built, compiled once, and held against the reference before they are believed."""
