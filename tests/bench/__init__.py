"""How fast farlet is, beside how fast it could be at all.

`make bench N=1000` starts two control planes with fake nodes and measures, in turn:

floor    a sender without a brain: the requests that farlet makes for one pod, byte for byte and
         with farlet's own HTTP client, for N pods; no watch, no wait, no decision
farlet   the process as a user starts it, serving N pods

API servers and everything else on the machine are the same for both, so their ratio says what
farlet itself costs. Requests are counted in a third run, with audit logs, which slow servers down.

`make streams` measures the other hot path: 200 `exec` sessions for a minute (streams, execsession).

Claims about time live here and not in tests: a test that asks for a speed fails on a busy machine.

Rooms: stage (what all runs share), workload (pods, and a clock on their way), recording (what
farlet sends for one pod), floor and serving (the two runs), counting (requests), report (the
words), and `test_ten_thousand_pods`, a part of `make soak`.
"""
