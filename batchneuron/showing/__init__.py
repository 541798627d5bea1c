"""What people see: progress while a job runs, and records as text.

progress.py   a bar on a terminal, a line every 30 seconds elsewhere
render*.py    records to text: jobs, folders, machines, status
"""
