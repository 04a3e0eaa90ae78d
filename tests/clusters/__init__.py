"""Two real Kubernetes clusters on this machine, for tests, the demo and benchmarks.

Nothing here is a mock, and nothing here imports farlet. In a test, take the fixtures of
`tests/conftest.py` (all marked `clusters` by using them)::

    clusters    pair.Clusters     both clusters with real nodes, once per session
    home        rest.Api          home's administrator, for this test
    foreign     rest.Api          foreign's administrator, for this test
    workspace   Workspace         .home and .foreign: namespaces for this test, farlet's Role there
    node        str               a name for this test's virtual node (farlet's --nodename), whose
                                  Node farlet creates; it is deleted at the end
    identity    Identity          farlet's identity at home: `--home-identity=node|account`; tests
                                  marked `both_identities` run as each
    start_farlet                  `await start_farlet(node, way=..., settings={...})`: a ready
                                  farlet with a Node that takes pods, stopped at the end;
                                  `ready=False` does not wait

When clusters stop, farlet's requests must have met no 403 that `refusals.py` does not excuse; tests
that expect one are marked `refused("home")` or `refused("foreign")`.

Elsewhere::

    from clusters import pair, rest, workspace, farlet
    from clusters.controlplane import Options
    from clusters.cluster import Spec

    with pair.real() as clusters: ...          # a real node and two fake ones each
    with pair.plain() as clusters: ...         # fake nodes, API servers straight on loopback
    with pair.demo() as clusters: ...          # a real node each, no kubectl, a small image
    with pair.start(home=Spec("home", options=Options(audit=False)), foreign=Spec("foreign"),
                    progress=None) as clusters: ...

Each first builds what its *kit* lacks (`preparation.py`); tests find all kits built, by
`make prepare`.

Clusters       .home .foreign .instance .home_api_in_foreign .foreign_api_in_home (host, port)
               .stop()
Cluster        .name .kubeconfig .server .address .ca_file .real_node (its name)
               .machine (this machine's address for its API server) .forwarder(port)
               .api(login=, user_agent=) -> rest.Api     .kubectl(*args, content=) -> str
               .login(user, groups=()) -> kubeconfig path
               .apply(*objects)      .create_virtual_node(name), if no farlet creates one
               .audit_mark() -> Mark                      .audit(since=, user_agent=prefix, user=,
               verb=, resource=, namespace=, name=, stage=) -> Iterator[auditlog.Entry]
               .apiserver.kill() .stop() .pause() .resume() .start() .wait_ready()
rest.Api       get list find create replace patch delete logs watch request
               until(resource, condition, name=, namespace=, seconds=) -> object
               conditions: rest.phase("Running", ...) rest.reason("X") rest.ready rest.gone
               rest.exists, or any function of `object | None`; rest.ApiError has code and reason
farlet.create(clusters, node=, way=farlet.Way.RUN|KOPF, identity=Identity.NODE|ACCOUNT,
               settings=, arguments=, environment=, home_login=, foreign_login=) -> Farlet:
               .start() await .ready() await .stop() .kill() await .restart() .usage() .log
               await .metrics() .kubelet_port (of 127.0.0.1)
workspace      create(home_api, foreign_api) delete(...) create_farlet_namespace(foreign_api)
               grant(foreign_api, namespace=, user=, rules=)
               allow_listing_pods(api, namespace=, account="default")
               until_allowed(api, user=, namespace=, rule=), as grant and allow_listing_pods do
               force(api, pod_name, namespace=): deleted at once, with finalizers
cordons        close(api, *nodes): once the scheduler knows     reopen(api, *nodes)
gateway        async with gateway.installed(clusters, replicas=1) -> Gateway: .settings (for farlet)
               await .linked() .pods() .address() .apply() .kubectl(...) .diagnostics()
               Pod: .name .pid .address .kill() .signal(sign) .usage()
metricsserver.running(cluster) -> context in which the cluster serves metrics.k8s.io
images.CLIENTS the image with all clients (see images.py); give it 512Mi

Which node a pod gets: label `farlet.test/node` is `real` or `fake`, to be used by nodeSelector. In
tests a pod that selects none gets a fake one, since the real node has a soft taint. In
`make clusters` (`Spec(usual=Usual.REAL)`) it gets the real one or stays Pending, since fake nodes
have the taint `farlet.test/fake`. What pods on fake nodes do (`farlet.test/finish`,
`farlet.test/hold`): stages.yaml.

Controllers wait 24 h for a node's heartbeat (`Options.node_grace`), since this machine may be busy;
a test that requires a shorter time starts its own clusters (`tests/integration/nodes/conftest.py`).

Components learn of changes by a watch (an authorizer of a Role, a scheduler of a cordon, kube-proxy
of a Service, an admission plugin of a policy), so a change is not yet effective when its request
returns. A test waits for a condition, never for a time: `seconds=` and the like are generous, and
only failures use them up. If a time is documented, the test adds slack for a busy machine. A test
sleeps for a fixed time only to show that nothing happens in it.

Home's API server reaches farlet's kubelet API: `kubectl logs` and the like work by
`clusters.home.kubectl`. In a plain pair only `nodes/NAME/proxy` does not, which API servers refuse
for addresses of loopback.

Modules: preparation, steps, binaries, packages, cache (where programs come from); rootfs, images,
languages (the test image); instance, processes, ports, limits, netns (what is ours on this machine,
and its end); pki, kubeconfig, controlplane, kwok, realnode, metricsserver, cluster, pair
(clusters); rest, auditlog, refusals, workspace, cordons, identity, farlet, gateway (use).

Measured on 2 cores, 24 GB, cgroups v1, otherwise idle:

    plain pair             start  8 s, stop 0.2 s
    pair with real nodes   start  9 s, stop 0.3 s, both in parallel; 1.6 GiB in all when idle
    killed API server      ready again after 2 s
    pod on the real node   client-all: 8 s from creation to Succeeded (ten clients, one after
                           another); a pod on a fake node runs after 0.1 s
    build, once            Go programs, by source to compile: 124 MB for the demo, 200 MB for all;
                           beside them, for all but the demo: image 25 s, its clients in Rust and
                           Java 63 s, unpacking 15 s; on a bare Debian 33 s of packages
    cache                  programs 770 MiB, image 690 MiB, prepared folder 1.6 GiB

State is in $TMPDIR/clusters-*, removed at the end; a start removes what a dead process left.
"""
