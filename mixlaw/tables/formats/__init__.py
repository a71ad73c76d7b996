"""From files to tables with standard columns.

`load` reads files in order: `files` reads cells in any format (`text_dialect`, `json_tables`), `layouts` lists the
layouts of other people's tables, `standardise` renames columns and pivots long tables (`long_tables`), `joins` joins
files by an id. Between these steps a table is a `RawTable`.
"""
