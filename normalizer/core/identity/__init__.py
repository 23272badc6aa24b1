"""Finds out which records are the same record, and which report the same event.

coordinates    identifies events by their coordinates: topic, partition, offset, ...
stored_events  the stored rows that reconciling reads, and the plan that it returns
reconcile      finds out whether an event is a record read again, another report of a stored event,
               or another event with the same id
collisions     decides which of several events with one id a report belongs to
merge          merges two reports of one event into one row
conflicts      stores the values that lost in a merge
merge_flags    the bits in which a row records facts about its reports
digests        compares JSON values by their digests
"""
