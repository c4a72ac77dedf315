"""`make demo`: six studies through gateway, worker and a small PACS on this machine."""
