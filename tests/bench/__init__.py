"""Benchmarks of farlet, compared with a lower bound.

`make bench N=1000` starts two control planes with fake nodes and measures, in turn:

floor    a simple sender: a frozen list of the requests that farlet sends for one pod, byte for
         byte and with farlet's own HTTP client, for N pods; without watches, waits or decisions
farlet   the process as a user starts it, serving N pods

API servers and everything else on the machine are the same for both, so their ratio shows the cost
of farlet itself. Requests are counted in a third run with audit logs, which slow servers down.

Variants (variants) are pods of mode remote, pods that share a ConfigMap and a Secret, Events of a
kubelet (mirrorevents, kubelet_events.yaml) with and without showing them at home, and another
checkout of farlet (othertree).

`make profile` samples farlet under the same load (profile, flamegraph).

`make streams` measures the other hot path: 200 `exec` sessions for a minute (streams, execsession).

Speed is measured here and not in tests, because tests of speed fail on a busy machine.

Modules: environment (shared by all runs), workload (pods, and a clock of their states), recording
(the requests that farlet sends for one pod), frozen (which of these the floor sends), floor and
serving (the two runs), counting (requests), report (tables and JSON), and `test_ten_thousand_pods`,
a part of `make soak`.
"""
