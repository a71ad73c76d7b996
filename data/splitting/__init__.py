"""Divides one corpus into domains: by a column, the site of a URL, the language, or clusters of similar texts."""
