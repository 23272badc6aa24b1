"""Finds out which records are the same record, and which report the same event.

coordinates    identifies events by where their record is in its log, for example its offset.
stored_events  has the stored rows that reconciling reads, and the plan that it returns.
reconcile      decides whether an event was read before, was reported before, or is new.
collisions     decides which of several events with one id a report belongs to.
merge          merges two reports of one event into one row.
conflicts      stores the values that lost in a merge.
merge_flags    has the bits in which a row records facts about its reports.
digests        compares JSON values by their digests.
"""
