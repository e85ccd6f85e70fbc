"""The studio.

`mien studio` serves a page in which clips are encoded, people driven, curves bent and channels explored.

`app` puts it together; one file a tab (`encode_tab`, `puppet_tab`, `edit_tab`, `explore_tab`); `access_control` checks
all requests, `sessions` keeps visitors apart, `job_queue` runs one heavy job at a time. docs/guide/studio.md tells
about it.
"""
