"""Which records are the same record, and which the same event.

coordinates    identifies events by their coordinates
stored_events  the rows that reconciling reads from the database, and its plan
reconcile      finds out whether it's the same record, the same event, or another event with the
               same id
collisions     decides which events share an id
merge          merges two reports of one event into one row
conflicts      keeps the values that lost in a merge
merge_flags    what a row remembers about its reports
digests        compares JSON values by their digests
"""
