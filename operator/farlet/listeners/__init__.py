"""What farlet lets others do to its ports: who may connect, how often, and with how many files.

Every port is open to anyone in the pod network. `listener` accepts connections within limits;
`open_files` says how many the process can afford.
"""
