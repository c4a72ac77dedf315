"""Everything the node remembers, and the only place that speaks SQL.

schema.py      the tables, and the states of their rows
database.py    the file: opening, transactions
migration.py   from one release's schema to another's, and back
backup.py      copies of the file
images.py      what arrives, and when a study closes
work.py        jobs and their results
deliveries.py  the outbox
versions.py    which result replaces which
rejections.py  what a destination is told of that
overview.py    what an operator sees
finished.py    what two nodes are compared by
"""
